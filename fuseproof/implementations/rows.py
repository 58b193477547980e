"""The implementations that a workload has by its deployment runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fuseproof.implementations.implementation import Implementation
from fuseproof.implementations.runtimes import RUNTIMES


def runtime_rows(
    workload: str, framework: str, target: str, *, only: Sequence[str] = (), **fields: Any
) -> tuple[Implementation, ...]:
    """One implementation for each deployment runtime of a framework, all with the same target.

    only:   modes, such as `onnxruntime`; empty for all of the framework.
    fields: further fields of each Implementation; dtypes are float32 alone by default.

        OWN = [*runtime_rows("mlp", "torch", ":torch_mlp"), *runtime_rows("mlp", "jax", ":jax_mlp")]
    """
    return tuple(
        Implementation(
            workload,
            each.name,
            framework=framework,
            target=target,
            compiled=mode,
            **{"dtypes": ("float32",), **fields},
        )
        for mode, each in RUNTIMES.items()
        if each.framework == framework and (not only or mode in only)
    )
