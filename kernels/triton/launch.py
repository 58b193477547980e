"""A kernel launch as data: run on a GPU by launchers, compiled without one by `ahead_of_time`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

import triton

FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The properties of a GPU that configs depend on.

    capability:    compute capability × 10.
    shared_memory: bytes that one block may use.
    processors:    streaming multiprocessors.
    """

    capability: int
    shared_memory: int
    processors: int


# CUDA C++ programming guide, technical specifications per compute capability; SMs of the A100, H100 and B200.
ARCHITECTURES = {
    80: Architecture(capability=80, shared_memory=163 * 1024, processors=108),
    90: Architecture(capability=90, shared_memory=227 * 1024, processors=132),
    100: Architecture(capability=100, shared_memory=227 * 1024, processors=148),
}


@functools.cache
def architecture_of(device: torch.device) -> Architecture:
    """The architecture of a GPU; an H100's for the CPU and the meta device, where nothing is timed."""
    if device.type != "cuda":
        return ARCHITECTURES[90]
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        # gfx94x and gfx95x report 9.4 and 9.5, not NVIDIA capabilities: they get the smallest tiles.
        shared = properties.shared_memory_per_block
        return Architecture(capability=80, shared_memory=shared, processors=properties.multi_processor_count)
    return Architecture(
        capability=properties.major * 10 + properties.minor,
        shared_memory=properties.shared_memory_per_block_optin,
        processors=properties.multi_processor_count,
    )


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Launch:
    """One launch of `kernel`: its arguments (tensors, numbers, None) and constexpr parameters by name."""

    kernel: triton.runtime.KernelInterface
    grid: tuple[int, ...]
    arguments: Mapping[str, torch.Tensor | float | None]
    constants: Mapping[str, object]
    num_warps: int
    num_stages: int
    options: Mapping[str, object] = field(default_factory=dict)  # further compile options, such as maxnreg
    label: str = ""  # names the launch in the tables of `ahead_of_time`

    def labelled(self, label: str) -> Launch:
        return replace(self, label=label)

    def run(self) -> None:
        """Enqueue the kernel. Raises NotImplementedError where it cannot run."""
        # This runs at every call, and a kernel may take only microseconds: read no property of a tensor that
        # creates an object.
        for value in self.arguments.values():
            if isinstance(value, torch.Tensor):
                tensor = value
                break
        else:
            raise ValueError("a launch needs a tensor among its arguments, whose device it runs on")
        if tensor.is_cuda:
            index = tensor.get_device()
            if index != torch.cuda.current_device():
                with torch.cuda.device(index):
                    self._call()
                return
        elif not (tensor.is_cpu and is_interpreted(self.kernel)):
            raise NotImplementedError(
                f"triton kernels need a CUDA or ROCm GPU; the tensors are on {tensor.device}: move them "
                "to a GPU, or set TRITON_INTERPRET=1 before the import to run them on the CPU in Triton's "
                "interpreter (correctness only)"
            )
        self._call()

    def compile(self) -> None:
        """Compile the kernel for the current GPU, unless it is compiled already, without running it."""
        self._call(warmup=True)

    def _call(self, *, warmup: bool = False) -> None:
        # Arguments by position where the order allows, to `run`, which `kernel[grid]` wraps: a third of the
        # time that some 25 keywords take through Triton's two calls.
        if [*self.arguments, *self.constants] == self.kernel.arg_names:
            by_position, by_name = (*self.arguments.values(), *self.constants.values()), self.options
        else:
            by_position, by_name = (), {**self.arguments, **self.constants, **self.options}
        self.kernel.run(
            *by_position,
            grid=self.grid,
            warmup=warmup,
            num_warps=self.num_warps,
            num_stages=self.num_stages,
            **by_name,
        )


def is_interpreted(kernel: triton.runtime.KernelInterface) -> bool:
    """Whether TRITON_INTERPRET=1 was set when the kernel was decorated; setting it later changes nothing."""
    return not isinstance(kernel, triton.runtime.JITFunction)


def check_tensors(
    operator: str,
    required: Mapping[str, Any],
    optional: Mapping[str, Any],
    dtypes: tuple[torch.dtype, ...] = FLOATS,
) -> None:
    """Raise TypeError or ValueError unless all are tensors of a supported floating type on one device.

    Dtypes may differ between tensors: each operator has its own rule for them.
    """
    given = {**required, **{name: value for name, value in optional.items() if value is not None}}
    for name, value in given.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{operator}: {name} must be a torch.Tensor, not {type(value).__name__}")
        if value.dtype not in dtypes:
            raise TypeError(
                f"{operator}: {name} has dtype {name_of(value.dtype)}; "
                "cast it to float16, bfloat16 or float32"
            )
    devices = {name: str(value.device) for name, value in given.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(f"{operator}: all tensors must be on one device, but {_listed(devices)}")


def check_same_dtype(operator: str, tensors: Mapping[str, torch.Tensor | None]) -> None:
    """Raise TypeError unless the tensors that are not None have one dtype."""
    dtypes = {name: name_of(value.dtype) for name, value in tensors.items() if value is not None}
    if len(set(dtypes.values())) > 1:
        raise TypeError(f"{operator}: dtypes must agree, but {_listed(dtypes)}; cast them to one")


def name_of(dtype: torch.dtype) -> str:
    """`bfloat16` for `torch.bfloat16`."""
    return str(dtype).removeprefix("torch.")


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} is {value}" for name, value in values.items())
