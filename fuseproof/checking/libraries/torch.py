"""PyTorch, as a check drives it: on the CPU and on a GPU."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fuseproof.checking.libraries import Call, Cotangent, Like, Placed, margins
from fuseproof.errors import UserError
from fuseproof.frameworks import host_memory
from fuseproof.frameworks import torch as framework
from fuseproof.workloads import trees

NAME = "PyTorch"
GRADIENTS = True

_BLOCKS = 4


def tensor(array: NDArray[Any], dtype: str, device: str) -> torch.Tensor:
    # PyTorch takes none of ml_dtypes' arrays.
    own = array if array.dtype.kind in "iub" else array.astype(np.float64)
    return torch.tensor(own, dtype=getattr(torch, dtype), device=_device(device))


def array(tensor: Any) -> NDArray[Any]:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{type(tensor).__name__}, not a tensor")
    if tensor.is_complex():
        raise TypeError("complex; real numbers and integers are checked")
    tensor = tensor.detach()
    return np.array((tensor.double() if tensor.is_floating_point() else tensor).cpu().numpy())


def dtype_name(tensor: torch.Tensor) -> str:
    return framework.dtype_name(tensor)


def converted(tensor: torch.Tensor, dtype: str, device: str) -> torch.Tensor:
    return tensor.detach().to(
        dtype=getattr(torch, dtype) if dtype else tensor.dtype, device=_device(device) or tensor.device
    )


def device_name(tensor: torch.Tensor) -> str:
    return str(tensor.device)


def placed(tensor: torch.Tensor, *, surrounded: bool = False) -> Placed:
    if tensor.layout is not torch.strided or tensor.numel() == 0:
        copy = tensor.detach().clone()
        original = copy.clone()
        return Placed(tensor=copy, changed=lambda: not _same(copy, original))
    item = tensor.element_size()
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    extent = item * (1 + sum((n - 1) * stride for n, stride in pairs))
    margin = margins.size(extent)
    # The dtype of the whole is that of the tensor, so
    # that whoever looks at the storage finds nothing odd.
    length = -(-(margin + extent + margin + margins.ALIGNMENT) // item)
    memory = torch.full(
        (length * item,), margins.NAN_BYTE if surrounded else 0, dtype=torch.uint8, device=tensor.device
    )
    # As far from a multiple of a cache line as the original: a kernel may look whether it can load vectors.
    start = margin + (tensor.data_ptr() - memory.data_ptr() - margin) % margins.ALIGNMENT
    copy = memory.view(tensor.dtype).as_strided(tensor.shape, tensor.stride(), start // item)
    source = tensor.detach()
    if surrounded and not margins.overlaps(_once(copy).shape, _once(copy).stride()):
        _once(copy).copy_(_once(source))  # and NaN stays in its gaps
    else:
        flat = source.as_strided((extent // item,), (1,), source.storage_offset())
        memory.view(tensor.dtype)[start // item : (start + extent) // item] = flat
    if surrounded and not (tensor.is_floating_point() or tensor.is_complex()):
        own = source.reshape(-1).flip(0).contiguous().view(torch.uint8)
        for part in (memory[:start], memory[start + extent :]):
            whole = len(part) - len(part) % item
            part[:whole] = own.repeat(-(-whole // len(own)))[:whole]
    before = memory.clone()

    def differs(part: slice) -> bool:
        return not torch.equal(memory[part], before[part])

    return Placed(
        tensor=copy,
        changed=lambda: differs(slice(start, start + extent)),
        overrun=lambda: differs(slice(start)) or differs(slice(start + extent, None)),
        surrounded=surrounded,
    )


def overwrite(tensor: torch.Tensor, values: NDArray[Any]) -> bool:
    target = _once(tensor.detach())
    if tensor.layout is not torch.strided or margins.overlaps(target.shape, target.stride()):
        return False
    held = margins.first_of_repeats(values, tensor.stride()).copy()
    # Past the version counter, as a loop that refills its buffers from elsewhere does.
    target.data.copy_(torch.from_numpy(held))
    return True


def float64() -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def in_float64(function: Any) -> Any:
    return framework.in_float64(function)


def uncompiled(function: Any) -> Any | None:
    original = getattr(function, "_orig_mod", None)  # of a module
    return getattr(function, "_torchdynamo_orig_callable", None) if original is None else original


def differentiate(
    call: Call, tensors: Mapping[str, Any], names: Sequence[str], cotangent: Cotangent
) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    leaves = {name: tensors[name].detach().requires_grad_() for name in names}
    with torch.enable_grad():
        results = trees.results(call({**tensors, **leaves}))
    started = {
        name: each for name, each in results.items() if isinstance(each, torch.Tensor) and each.requires_grad
    }
    if not started:
        return None
    given = [
        torch.as_tensor(cotangent(name, tuple(each.shape)), dtype=each.dtype, device=each.device)
        for name, each in started.items()
    ]
    found = torch.autograd.grad(list(started.values()), list(leaves.values()), given, allow_unused=True)
    return results, dict(zip(names, found, strict=True)), list(started)


@contextlib.contextmanager
def fresh_memory(like: Iterable[Like], device: str, *, poison: bool, eager: bool) -> Iterator[None]:
    """On a GPU only the caching allocator's free blocks of these sizes; of eager code every allocation.

    A compiled function would be compiled again if PyTorch were told to fill memory itself, and be another.
    """
    for shape, dtype in like:
        own = getattr(torch, dtype)
        value: Any = 1
        if poison:
            value = torch.nan if own.is_floating_point else own != torch.bool and torch.iinfo(own).max
        blocks = [torch.full(shape, value, dtype=own, device=_device(device)) for _ in range(_BLOCKS)]
        del blocks
    if not poison:
        yield
        return
    before = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    with host_memory.poisoned(), warnings.catch_warnings():
        # What has no deterministic algorithm says so, and nobody asked for one.
        warnings.simplefilter("ignore")
        try:
            if eager:
                torch.set_deterministic_debug_mode("warn")
                torch.utils.deterministic.fill_uninitialized_memory = True
            yield
        finally:
            if eager:
                torch.set_deterministic_debug_mode(before[0])
                torch.utils.deterministic.fill_uninitialized_memory = before[1]


def finish(raw: Any) -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def device_memory(device: str) -> Callable[[], int] | None:
    if not device.startswith("cuda"):
        return None

    def in_use() -> int:
        torch.cuda.synchronize()
        return int(torch.cuda.memory_allocated(device))

    return in_use


def _device(name: str) -> torch.device | None:
    if not name:
        return None
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"PyTorch knows no device {name!r}; write cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise NotImplementedError("PyTorch sees no CUDA GPU here")
    return device


def _once(tensor: torch.Tensor) -> torch.Tensor:
    """The first element of every axis whose stride is zero."""
    for axis, stride in enumerate(tensor.stride()):
        if stride == 0:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(torch.equal(one, other))
