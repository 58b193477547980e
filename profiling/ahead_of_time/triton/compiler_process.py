"""The compiling process: lists the launches of an operator's kernels and compiles one at a time."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from pathlib import Path
from typing import Any

import torch
import triton

from fuseproof.child_process import serve
from fuseproof.kernels.triton import ahead_of_time
from fuseproof.kernels.triton.launch import ARCHITECTURES, Launch, name_of
from fuseproof.profiling.ahead_of_time.triton.compile_kernels import COMPILE_LISTS


@functools.cache
def launches(operator: str, dtype: str, capability: int) -> dict[str, Launch]:
    """The launches of an operator's kernels by label. Raises ValueError if two have one label."""
    module, function = COMPILE_LISTS[operator].split(":")
    list_launches = getattr(importlib.import_module(module), function)
    found: dict[str, Launch] = {}
    for launch in list_launches(getattr(torch, dtype), ARCHITECTURES[capability]):
        if launch.label in found:
            raise ValueError(f"two launches of {operator} are labelled {launch.label!r}")
        found[launch.label] = launch
    return found


def dtypes(operator: str) -> tuple[str, ...]:
    """The dtypes an operator's kernels are compiled for: `DTYPES` of the module with its list."""
    module, _ = COMPILE_LISTS[operator].split(":")
    return tuple(name_of(dtype) for dtype in importlib.import_module(module).DTYPES)


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """`list`: dtypes and labels; `compile`: the resources of one launch."""
    operator, capability = request["operator"], request["capability"]
    if request["do"] == "list":
        wanted = request["dtypes"]
        chosen = [dtype for dtype in dtypes(operator) if not wanted or dtype in wanted]
        labels = {dtype: list(launches(operator, dtype, capability)) for dtype in chosen}
        return {"labels": labels, "triton": triton.__version__}
    launch = launches(operator, request["dtype"], capability)[request["label"]]
    used = ahead_of_time.resources(
        launch,
        capability,
        instructions=request["instructions"],
        output=None if request["output"] is None else Path(request["output"]),
    )
    return {**dataclasses.asdict(used), "kernel": launch.kernel.__name__}


if __name__ == "__main__":
    serve(handle)
