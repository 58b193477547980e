"""How many kernels one call launches, by the framework's own profiler; runs inside a worker.

On a GPU: kernels, copies and fills on the device. On the CPU, where nothing is launched: for PyTorch the
operators below wrappers and composites, and Inductor's C++ kernels (they show only if
TORCHINDUCTOR_CPP_ENABLE_KERNEL_PROFILE=1 was set before they were compiled); for XLA its thunks; for
TensorFlow's own executors the ops that compute. Views and allocations do not count.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fuseproof.errors import UserError
from fuseproof.profiling import traces
from fuseproof.profiling.timeline import DEVICE_WORK, Timeline

CALLS = 4

# TensorFlow's ops that only name, regroup or describe tensors.
_TENSORFLOW_FREE = frozenset(
    ("BroadcastGradientArgs", "Const", "ExpandDims", "Identity", "IdentityN", "NoOp", "Placeholder",
     "ReadVariableOp", "Reshape", "Shape", "ShapeN", "Squeeze", "StopGradient", "_Arg", "_Retval")
)  # fmt: skip
_EAGER = "EagerLocalExecute: "


def kernels_per_call(framework: str, call: Callable[[], object]) -> int:
    """The number of kernels of one call, which must be the same for each of `CALLS` calls.

    call: returns when all its work is done, or kernels of the call before would be counted.

    Raises UserError if the profiler saw none, or a number that no whole number per call explains: it has lost
    events then, or the calls differ.
    """
    call()
    seen = {"torch": _torch, "jax": _jax, "tensorflow": _tensorflow}[framework](call)
    if not seen:
        raise UserError("the profiler saw no kernel")
    if seen % CALLS:
        raise UserError(f"the profiler saw {seen} kernels in {CALLS} calls: it lost some, or calls differ")
    return seen // CALLS


def _torch(call: Callable[[], object]) -> int:
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        for _ in range(CALLS):
            call()
    if on_gpu:
        with tempfile.TemporaryDirectory(prefix="fuseproof-") as folder:
            file = Path(folder) / "trace.json"
            profiled.export_chrome_trace(str(file))
            return _on_devices(_load(file))
    events = profiled.events() or []
    return sum(1 for event in events if event.cpu_parent is None for _ in _operators(event))


def _operators(event: Any) -> Iterator[str]:
    """The outermost operators that compute at or below an event: what they call is part of them."""
    if "cpp_fused" in event.name or "cpp_Cpp" in event.name or _computes(event.name):
        yield event.name
    else:
        for child in event.cpu_children:
            yield from _operators(child)


@functools.cache
def _computes(name: str) -> bool:
    import torch

    if name.startswith(("aten::empty", "aten::new_empty")) or name in ("aten::_unsafe_view", "aten::set_"):
        return False
    # The profiler gives no overloads; variants of results by name or for `out=` say nothing of the operator.
    for schema in torch._C._jit_get_schemas_for_operator(name) if "::" in name else ():
        overload = schema.overload_name
        whole = f"{name}.{overload}" if overload else name
        if whole not in _dispatched() or overload.endswith("out") or "name" in overload.lower():
            continue
        aliases = [r.alias_info for r in schema.returns if r.alias_info is not None]
        is_view = bool(aliases) and not any(alias.is_write for alias in aliases)
        composite = torch._C._dispatch_has_kernel_for_dispatch_key(whole, "CompositeImplicitAutograd")
        if not is_view and not composite:
            return True
    return False


@functools.cache
def _dispatched() -> frozenset[str]:
    """Operators that the dispatcher knows; TorchScript has overloads of its own."""
    import torch

    return frozenset(torch._C._dispatch_get_all_op_names())


def _jax(call: Callable[[], object]) -> int:
    import jax

    with tempfile.TemporaryDirectory(prefix="fuseproof-") as folder:
        with jax.profiler.trace(folder):
            for _ in range(CALLS):
                call()
        return _on_devices(_xplane(folder))


def _tensorflow(call: Callable[[], object]) -> int:
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="fuseproof-") as folder:
        tf.profiler.experimental.start(folder)
        try:
            for _ in range(CALLS):
                call()
        finally:
            tf.profiler.experimental.stop()
        timeline = _xplane(folder)
    if any(lane.kind == "device" for lane in timeline.lanes):
        return _on_devices(timeline)
    executed = timeline.select(timeline.lane_mask(derived=False), ("framework_op",))
    names = [timeline.names[number] for number in timeline.slices.name[executed]]
    others = timeline.select(timeline.lane_mask(derived=False), ("other",))
    eager = (timeline.names[number] for number in timeline.slices.name[others])
    names += [name.removeprefix(_EAGER) for name in eager if name.startswith(_EAGER)]
    # A whole function is one op to its caller; what it runs has events of its own.
    operations = [name for name in names if not name.startswith("__") and name not in _TENSORFLOW_FREE]
    return _on_devices(timeline) + len(operations)


def _on_devices(timeline: Timeline) -> int:
    return int(timeline.select(timeline.lane_mask(derived=False), DEVICE_WORK).sum())


def _xplane(folder: str) -> Timeline:
    files = sorted(Path(folder).rglob("*.xplane.pb"))
    if not files:
        raise UserError("the profiler wrote no trace")
    return _load(files[-1])


def _load(file: Path) -> Timeline:
    (timeline,) = traces.load_all(file)
    return timeline
