"""The program of a PyTorch implementation, before and after TorchInductor; runs inside a worker.

Before: the ATen operators that the function dispatches when it is not compiled, those of autograd too. After:
the code Inductor wrote, read by `fusion.programs.inductor`.
"""

from __future__ import annotations

import contextlib
import functools
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch._inductor import config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fuseproof.fusion.programs import inductor
from fuseproof.fusion.programs.operations import Operation, Reading

# They move nothing, although their schema does not say so.
_NO_WORK = frozenset(("_unsafe_view", "_reshape_alias", "lift_fresh", "is_same_size", "sym_size"))
_ALLOCATE = ("empty", "new_empty")
# They read only the shape of their input.
_SHAPE_ONLY = ("_like", "new_zeros", "new_ones", "new_full")
# They write over their first argument without reading it.
_OVERWRITE = ("copy_", "zero_", "fill_")


@contextlib.contextmanager
def compiling(folder: Path) -> Iterator[None]:
    """Within, Inductor keeps its code in `folder`, and compiles again even what its cache holds."""
    with config.patch(
        {"trace.enabled": True, "trace.debug_dir": str(folder / "trace"), "force_disable_caches": True}
    ):
        yield


def read(call: Any, *, compiled: str, eager: Callable[[], object], folder: Path) -> Reading:
    """What was compiled within `compiling(folder)`. `eager` calls the function uncompiled."""
    before = dispatched(eager)
    if compiled == "kernel":
        return Reading(
            before=before, unknown={"after": "a hand-written kernel: nothing states what it reads"}
        )
    artifacts: dict[str, str] = {}
    operations: list[Operation] = []
    graphs = 0
    for trace in sorted((folder / "trace").glob("torchinductor/*"), key=_number):
        code = trace / "output_code.py"
        if not code.is_file():
            continue
        graphs += 1
        operations += inductor.kernels(code.read_text(), source=f"{trace.name}", operators=_aten_names())
        kind = "backward" if "backward" in trace.name else "forward"
        for label, name in (
            ("ATen graph", "fx_graph_transformed.py"),
            ("Inductor's code", "output_code.py"),
            ("Inductor's loops after fusion", "ir_post_fusion.txt"),
        ):
            if (trace / name).is_file():
                kept = f"{kind}-{graphs}-{name}"
                shutil.copyfile(trace / name, folder / kept)
                artifacts[f"{label}, {kind}" + (f" ({graphs})" if graphs > 2 else "")] = kept
    shutil.rmtree(folder / "trace", ignore_errors=True)
    if not graphs:
        return Reading(
            before=before, unknown={"after": "Inductor wrote no code for it: nothing was compiled"}
        )
    return Reading(before=before, after=tuple(operations), artifacts=artifacts)


def dispatched(call: Callable[[], object]) -> tuple[Operation, ...]:
    """The ATen operators of one call below autograd, with the bytes that each reads and writes."""
    with _Recorder() as recorder:
        call()
    return tuple(recorder.operations)


class _Recorder(TorchDispatchMode):  # type: ignore[misc]  # PyTorch's types are skipped
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        aliases = [r.alias_info for r in func._schema.returns if r.alias_info is not None]
        is_view = bool(aliases) and not any(alias.is_write for alias in aliases)
        written = _tensors(result)
        if not is_view and name not in _NO_WORK and not name.startswith(_ALLOCATE) and written:
            read = [] if name.endswith(_SHAPE_ONLY) else _tensors((args[name in _OVERWRITE :], kwargs or {}))
            self.operations.append(
                Operation(
                    name=name, kind="operation", bytes=sum(map(_bytes, read)) + sum(map(_bytes, written))
                )
            )
        return result


def _tensors(tree: Any) -> list[torch.Tensor]:
    """The tensors in it, each part of memory once."""
    found = {}
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor):
            found[leaf.data_ptr(), tuple(leaf.shape), leaf.stride()] = leaf
    return list(found.values())


def _bytes(tensor: torch.Tensor) -> int:
    # Along a stride of 0 the same elements are read again.
    moving = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0]
    size: int = math.prod(moving) * tensor.element_size()
    return size


def _number(trace: Path) -> int:
    """Traces are numbered in the order they were compiled: `model__0_forward_1.0`."""
    return int(trace.suffix[1:]) if trace.suffix[1:].isdecimal() else 0


@functools.cache
def _aten_names() -> tuple[str, ...]:
    names = (name.partition("::")[2].partition(".")[0] for name in torch._C._dispatch_get_all_op_names())
    return tuple(sorted(set(names)))
