"""The program of a JAX implementation, before and after XLA; runs inside a worker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuseproof.fusion.programs import xla
from fuseproof.fusion.programs.operations import Reading


def compiling(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Nothing needs preparing: a jitted function is lowered again when it is read."""
    return contextlib.nullcontext()


def read(call: Any, *, compiled: str, eager: Callable[[], object], folder: Path) -> Reading:
    """The HLO of what `call`, a `functools.partial`, calls with its arguments."""
    if not hasattr(call.func, "lower"):
        reason = "the step is not a jitted function: it has no single HLO module"
        return Reading(unknown={"before": reason, "after": reason})
    lowered = call.func.lower(*call.args, **call.keywords)
    return xla.read({"before": lowered.as_text(dialect="hlo"), "after": lowered.compile().as_text()}, folder)
