"""The compiling process: lists the launches of kernels, ours or a user's, and compiles one at a time."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
from pathlib import Path
from typing import Any

import torch
import triton

from fuseproof.cases import parse_group
from fuseproof.child_process import serve
from fuseproof.implementations import Implementation
from fuseproof.kernels.triton import ahead_of_time
from fuseproof.kernels.triton.launch import ARCHITECTURES, Launch, name_of
from fuseproof.measure.opening import planned
from fuseproof.profiling.ahead_of_time.triton import recorded_launches
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


@functools.cache
def users_launches(of: str) -> dict[str, Launch]:
    """The launches of a user's implementation in a case by label; `of`: both, as JSON."""
    asked = json.loads(of)
    case = planned(asked["case"], asked["workload"])
    implementation = Implementation.from_json(asked["implementation"])
    return {each.label: each for each in recorded_launches.launches_of(implementation, case)}


def _dtype_of(case: str) -> str:
    parts = parse_group(case)
    assert parts is not None, "the case was planned"
    return parts.dtype


def dtypes(operator: str) -> tuple[str, ...]:
    """The dtypes an operator's kernels are compiled for: `DTYPES` of the module with its list."""
    module, _ = COMPILE_LISTS[operator].split(":")
    return tuple(name_of(dtype) for dtype in importlib.import_module(module).DTYPES)


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """`list`: dtypes and labels; `compile`: the resources of one launch."""
    operator, capability, of = request["operator"], request["capability"], request["of"]
    known = None if of is None else users_launches(json.dumps(of))
    if request["do"] == "list" and known is not None:
        return {"labels": {_dtype_of(of["case"]): list(known)}, "triton": triton.__version__}
    if request["do"] == "list":
        wanted = request["dtypes"]
        chosen = [dtype for dtype in dtypes(operator) if not wanted or dtype in wanted]
        labels = {dtype: list(launches(operator, dtype, capability)) for dtype in chosen}
        return {"labels": labels, "triton": triton.__version__}
    launch = (known or launches(operator, request["dtype"], capability))[request["label"]]
    used = ahead_of_time.resources(
        launch,
        capability,
        instructions=request["instructions"],
        output=None if request["output"] is None else Path(request["output"]),
    )
    return {**dataclasses.asdict(used), "kernel": launch.kernel.__name__}


if __name__ == "__main__":
    serve(handle)
