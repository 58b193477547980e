"""The meaning of Kineto's fields in any version and for any vendor, by parts of words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NOTES = (
    "cuda_runtime_version",
    "cuda_driver_version",
    "cupti_version",
    "hip_runtime_version",
    "hip_driver_version",
    "roctracer_version",
    "traceName",
    "trace_id",
)


@dataclass(frozen=True, slots=True)
class LaneKey:
    """The lane of an event."""

    role: str  # "device", "sync", "annotation", "host", "python"
    process: Any
    thread: Any


def classify(category: Any, process: Any) -> tuple[str, str]:
    """Role of the lane (as in LaneKey) and kind of the slice, from the category in any schema's spelling."""
    text = category.lower() if isinstance(category, str) else ""
    if "annotation" in text:
        return ("annotation" if "gpu" in text or "device" in text else "host"), "user_range"
    if "runtime" in text or "driver" in text:
        return "host", "host_call"
    if "python" in text:
        return "python", "host_call"
    if "sync" in text or text == "cuda_event":
        return "sync", "other"
    if "memcpy" in text:
        return "device", "memcpy"
    if "memset" in text:
        return "device", "memset"
    if "kernel" in text or (not text and process == "CUDA functions"):
        return "device", "kernel"
    if "overhead" in text:
        return "host", "overhead"
    if "compil" in text or text in ("dynamo_timed", "inductor"):
        return "host", "compile"
    if "op" in text.replace("-", "_").split("_") or "operator" in text or process == "CPU functions":
        return "host", "framework_op"
    return "host", "other"


def device_names(top: Mapping[str, Any]) -> dict[int, str]:
    """Names of the devices by number, from the document's `deviceProperties`."""
    properties = top.get("deviceProperties")
    names = {}
    for each in properties if isinstance(properties, list) else []:
        if isinstance(each, dict) and type(each.get("id")) is int and isinstance(each.get("name"), str):
            names[each["id"]] = each["name"].strip()[:200]
    return names


def device_name(number: Any, names: Mapping[int, str]) -> str:
    """A device's name in the timeline, such as `GPU 0 NVIDIA H100`."""
    known = names.get(number) if type(number) is int else None
    return f"GPU {title(number)} {known}" if known else f"GPU {title(number)}"


def lane_order(key: LaneKey) -> tuple[Any, ...]:
    """Sort key that puts devices first, then processes and threads by number."""
    on_device = key.role in ("device", "sync", "annotation")
    role = ("annotation", "device", "sync", "python", "host").index(key.role)
    return (not on_device, *_natural(key.process), *_natural(key.thread), role)


def _natural(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float) and value == value:
        return (0, value, "")
    return (1, 0, str(value))


def notes_of(top: Mapping[str, Any]) -> dict[str, str]:
    """Versions of runtimes and drivers, and the rank, from the document's other keys."""
    notes = {key: str(top[key])[:200] for key in _NOTES if isinstance(top.get(key), str | int | float)}
    rank = top["distributedInfo"].get("rank") if isinstance(top.get("distributedInfo"), dict) else None
    return notes | ({"rank": str(rank)} if isinstance(rank, int) else {})


def plain(value: Any) -> Any:
    """A hashable value in place of any JSON value."""
    return value if value is None or isinstance(value, str | int | float) else repr(value)[:200]


def title(value: Any) -> str:
    """A process, thread or name as text."""
    return "unnamed" if value is None else str(value)[:200]
