"""TorchScript: `torch.jit.script`, or `torch.jit.trace` where the mode says so; frozen, saved and loaded.

Deprecated in PyTorch, and still what libtorch and many servers load. Its results are new tensors.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from fuseproof.frameworks import Bound
from fuseproof.frameworks.runtimes.in_torch import Bind, Program

BOUND_RESULTS = False


def export(program: Program, folder: Path) -> Path:
    """The frozen program: its weights are constants, with batch norms folded into convolutions."""
    file = folder / "program.pt"
    if program.mode == "torchscript-trace":
        scripted = torch.jit.trace(program, program.examples, check_trace=False)
    else:
        scripted = torch.jit.script(program.called)
    if isinstance(scripted, torch.jit.ScriptModule):
        scripted = torch.jit.freeze(scripted)
    torch.jit.save(scripted, str(file))
    return file


def load(file: Path, program: Program) -> Bind:
    scripted = torch.jit.load(str(file))

    def bind(tensors: tuple[torch.Tensor, ...]) -> Bound:
        if program.mode == "torchscript-trace":
            return functools.partial(_call, functools.partial(scripted, *tensors))
        return functools.partial(_call, program.bound(scripted, tensors))

    return bind


def _call(bound: Bound) -> Any:
    with torch.no_grad():
        return bound()
