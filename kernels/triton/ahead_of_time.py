"""Compile launches without a GPU; read registers, spills, shared memory and instructions of the result."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

import triton
from fuseproof.kernels.triton.launch import Launch, is_interpreted
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

_POINTER_TYPES = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float8_e4m3fn: "*fp8e4nv",
    torch.float8_e5m2: "*fp8e5",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.float64: "*fp64",
    torch.bool: "*i1",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int16: "*i16",
}
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")

# From compute capability 9.0 on, the cubin counts the shared memory that the system reserves in every block
# as the kernel's own if the kernel has dynamic shared memory (seen: the same kernels have 0 bytes on sm_80,
# and 1024 on sm_90 and sm_100; one without any shared memory has 0 everywhere).
_RESERVED_SHARED = 1024

_WIDE_PTX = r"(?:\.\w+)*\.(?:v4\.[bfu]32|v8\.[bfu]32|v2\.[bfu]64|b128)"  # 128 bits or more

# Patterns of the instructions that are counted, in machine code and in PTX. A loop's body counts once.
INSTRUCTIONS: Mapping[str, tuple[str, str]] = {
    "mma": (r"[HIQDO]MMA\b", r"mma\.sync"),  # tensor cores, one warp
    "wgmma": (r"[HIQB]GMMA\b", r"wgmma\.mma_async"),  # tensor cores of Hopper, four warps
    "tcgen05": (r"UTC[A-Z]*MMA\b", r"tcgen05\.mma"),  # tensor cores of Blackwell
    "tma": (r"UTMA(?:LDG|STG|REDG)\b|UBLKCP\b", r"cp\.async\.bulk\.(?:tensor|shared|global)"),
    "cp_async": (r"LDGSTS\b", r"cp\.async\.c[ag]\.shared"),
    "load": (r"LDG\b", r"ld\.global(?:\.\w+)*"),
    "load_128": (r"LDG\.[\w.]*(?:128|256)", rf"ld\.global{_WIDE_PTX}"),
    "store": (r"STG\b", r"st\.global(?:\.\w+)*"),
    "store_128": (r"STG\.[\w.]*(?:128|256)", rf"st\.global{_WIDE_PTX}"),
    "local": (r"(?:LDL|STL)\b", r"(?:ld|st)\.local"),  # spills, or a kernel's arrays
}  # fmt: skip
_SASS_OPCODE = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one compiled kernel uses: registers and spilled bytes per thread, shared bytes per block.

    tensor_memory: columns of tensor memory per block (Blackwell).
    instructions:  counts by the names of INSTRUCTIONS, and where they were read, `SASS` or `PTX`.
    """

    label: str
    capability: int
    registers: int
    spill_bytes: int
    static_shared_bytes: int
    dynamic_shared_bytes: int
    num_warps: int
    num_stages: int
    tensor_memory: int = 0
    instructions: Mapping[str, int] | None = None
    instruction_source: str = ""

    @property
    def shared_bytes(self) -> int:
        return self.static_shared_bytes + self.dynamic_shared_bytes


def compile_launch(launch: Launch, capability: int) -> CompiledKernel:
    """Compile a launch (its tensors may be on the meta device) for compute capability `capability` / 10.

    Specialised as the launch on a GPU would be: integers that are 1 are folded in, pointers and integers
    divisible by 16 are marked so, where the kernel does not say otherwise. Raises RuntimeError under
    TRITON_INTERPRET=1, where kernels are interpreted.
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
        parameter = launch.kernel.params[index]
        divisible = False
        is_one = isinstance(value, int) and value == 1 and not parameter.do_not_specialize
        if name in launch.constants or value is None or is_one:
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
        if divisible and not (parameter.do_not_specialize or parameter.do_not_specialize_on_alignment):
            attributes[(index,)] = [["tt.divisibility", 16]]
    return triton.compile(
        ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": launch.num_warps, "num_stages": launch.num_stages, **launch.options},
    )


def resources(
    launch: Launch, capability: int, *, instructions: bool = False, output: Path | None = None
) -> Resources:
    """Compile a launch and read its resources from the cubin.

    With `instructions`, the machine code is disassembled and its instructions counted, which takes 0.4 s. The
    compiler's files (ttir, ttgir, llir, ptx, cubin, sass) are written to the directory `output` if given.
    """
    compiled = compile_launch(launch, capability)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        listing = _cuobjdump("--dump-resource-usage", cubin)
        sass = _disassemble(cubin) if instructions or output is not None else None
    match = _RESOURCES.search(listing)
    if match is None:
        raise RuntimeError(f"cuobjdump printed no resource usage for {launch.label}: {listing!r}")
    registers, stack, shared, local = map(int, match.groups())
    if output is not None:
        _keep(compiled, sass, output)
    metadata = compiled.metadata
    return Resources(
        label=launch.label,
        capability=capability,
        registers=registers,
        spill_bytes=stack + local,  # the kernels have no arrays: local memory is spills
        static_shared_bytes=max(0, shared - _RESERVED_SHARED) if capability >= 90 else shared,
        dynamic_shared_bytes=metadata.shared,
        num_warps=metadata.num_warps,  # with warp specialization, of all groups together
        num_stages=launch.num_stages,
        tensor_memory=getattr(metadata, "tmem_size", 0) or 0,
        instructions=count_instructions(sass=sass, ptx=compiled.asm["ptx"]) if instructions else None,
        instruction_source=("PTX" if sass is None else "SASS") if instructions else "",
    )


def count_instructions(*, sass: str | None, ptx: str) -> dict[str, int]:
    """How often each kind of INSTRUCTIONS occurs in the machine code, or in the PTX if `sass` is None."""
    if sass is None:
        return {
            kind: len(re.findall(rf"\b(?:{pattern})", ptx)) for kind, (_, pattern) in INSTRUCTIONS.items()
        }
    opcodes = Counter(_SASS_OPCODE.findall(sass))
    return {
        kind: sum(count for opcode, count in opcodes.items() if re.match(pattern, opcode))
        for kind, (pattern, _) in INSTRUCTIONS.items()
    }


def _disassemble(cubin: Path) -> str | None:
    """The machine code; None if Triton's package has no working disassembler."""
    try:
        return _cuobjdump("-sass", cubin)
    except (OSError, subprocess.CalledProcessError):
        return None


def _cuobjdump(option: str, cubin: Path) -> str:
    command = [triton.knobs.nvidia.cuobjdump.path, option, cubin]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _keep(compiled: CompiledKernel, sass: str | None, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for stage in ("ttir", "ttgir", "llir", "ptx"):
        (directory / f"kernel.{stage}").write_text(str(compiled.asm[stage]), encoding="utf-8")
    (directory / "kernel.cubin").write_bytes(compiled.asm["cubin"])
    if sass is not None:
        (directory / "kernel.sass").write_text(sass, encoding="utf-8")
