"""AOTInductor: `torch.export`, compiled ahead of time by Inductor into a package that needs no Python.

What `torch.compile` compiles at the first call, compiled before. Its results are new tensors of each call.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch._inductor import aoti_compile_and_package, aoti_load_package

from fuseproof.frameworks import Bound
from fuseproof.frameworks.runtimes.in_torch import Bind, Program

BOUND_RESULTS = False


def export(program: Program, folder: Path) -> Path:
    """The package, with the weights in it."""
    exported = torch.export.export(program, program.examples)
    file = folder / "program.pt2"
    aoti_compile_and_package(exported, package_path=str(file))
    return file


def load(file: Path, program: Program) -> Bind:
    package: Any = aoti_load_package(str(file))

    def bind(tensors: tuple[torch.Tensor, ...]) -> Bound:
        return functools.partial(package, *tensors)

    return bind
