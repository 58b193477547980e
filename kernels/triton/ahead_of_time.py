"""Compile launches for a GPU that need not be there; read registers, spills and shared memory."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import triton
from fuseproof.kernels.triton.launch import Launch, is_interpreted
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

_POINTER_TYPES = {torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32"}
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one compiled kernel uses: registers and spilled bytes per thread, shared bytes per block."""

    label: str
    capability: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    num_warps: int
    num_stages: int


def compile_launch(launch: Launch, capability: int) -> CompiledKernel:
    """Compile a launch (its tensors may be on the meta device) for compute capability `capability` / 10.

    Specialised as the launch on a GPU would be: integers that are 1 are folded in, pointers and integers
    divisible by 16 are marked so. Raises RuntimeError under TRITON_INTERPRET=1, where there is nothing to
    compile.
    """
    if is_interpreted(launch.kernel):
        raise RuntimeError(
            "the kernels were imported under TRITON_INTERPRET=1; compile in a process without it"
        )
    signature: dict[str, str] = {}
    constants = dict(launch.constants)
    attributes = {}
    for index, name in enumerate(launch.kernel.arg_names):
        value = launch.arguments.get(name)
        divisible = False
        if name in launch.constants or value is None or (isinstance(value, int) and value == 1):
            signature[name] = "constexpr"
            constants.setdefault(name, value)
        elif isinstance(value, torch.Tensor):
            signature[name] = _POINTER_TYPES[value.dtype]
            divisible = value.storage_offset() * value.element_size() % 16 == 0  # allocators align the rest
        elif isinstance(value, int):
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            divisible = value % 16 == 0
        else:
            signature[name] = "fp32"
        if divisible:
            attributes[(index,)] = [["tt.divisibility", 16]]
    return triton.compile(
        ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": launch.num_warps, "num_stages": launch.num_stages, **launch.options},
    )


def resources(launch: Launch, capability: int) -> Resources:
    """Compile a launch and read its resources from the cubin."""
    compiled = compile_launch(launch, capability)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        listing = subprocess.run(
            [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", cubin],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    match = _RESOURCES.search(listing)
    if match is None:
        raise RuntimeError(f"cuobjdump printed no resource usage for {launch.label}: {listing!r}")
    registers, stack, static_shared, local = map(int, match.groups())
    return Resources(
        label=launch.label,
        capability=capability,
        registers=registers,
        spill_bytes=stack + local,  # our kernels keep no arrays: all that lies in local memory is spilled
        shared_bytes=static_shared + compiled.metadata.shared,
        num_warps=compiled.metadata.num_warps,
        num_stages=launch.num_stages,
    )
