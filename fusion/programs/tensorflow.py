"""The program of a TensorFlow implementation, before and after XLA; runs inside a worker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuseproof.fusion.programs import xla
from fuseproof.fusion.programs.operations import Reading


def compiling(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Nothing needs preparing: a tf.function gives its HLO when it is asked."""
    return contextlib.nullcontext()


def read(call: Any, *, compiled: str, eager: Callable[[], object], folder: Path) -> Reading:
    """The HLO of what `call`, a `functools.partial`, calls with its arguments."""
    try:
        texts = call.func.experimental_get_compiler_ir(*call.args, **call.keywords)
    except (AttributeError, ValueError):  # of a plain function; of a tf.function without jit_compile
        reason = "TensorFlow's own executor runs it, not XLA; its graphs are not read"
        return Reading(unknown={"before": reason, "after": reason})
    return xla.read({"before": texts(stage="hlo"), "after": texts(stage="optimized_hlo")}, folder)
