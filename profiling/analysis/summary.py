"""A timeline in numbers: the document of `fuseproof timeline --json`, and the text for the terminal."""

from __future__ import annotations

from typing import Any

from fuseproof import units
from fuseproof.profiling.timeline.model import KIND, Timeline


def document(timeline: Timeline) -> dict[str, Any]:
    """The object that `--json` prints. `kernels` counts kernels, collectives, copies and memsets."""
    devices = timeline.devices()
    # The keys say ns; a static schedule, whose unit is the cycle, names it.
    unit = {} if timeline.time_unit == "ns" else {"time_unit": timeline.time_unit}
    return {
        "source": timeline.source,
        **unit,
        "devices": [
            {
                "name": device.name,
                "kernels": device.kernels,
                "busy_ns": device.busy_ns,
                "span_ns": device.span_ns,
            }
            for device in devices
        ],
        "slices": len(timeline.slices),
        "memory": [
            {
                "allocator": memory.allocator,
                "device": memory.device,
                "events": len(memory),
                "peak_bytes": memory.peak_bytes,
            }
            for memory in timeline.memory
        ],
        "overlaps": sum(device.overlaps for device in devices),
        "dropped_events": timeline.dropped_events,
        "warnings": list(timeline.warnings),
    }


def render_text(timeline: Timeline) -> str:
    """The same as text, ending in a newline."""
    found = document(timeline)
    lines = [f"{timeline.name}: {found['source']}, {found['slices']:,} slices in {len(timeline.lanes)} lanes"]
    for device in found["devices"]:
        share = f" ({device['busy_ns'] / device['span_ns']:.1%})" if device["span_ns"] else ""
        if timeline.source == "tpu-static":
            unknown = (timeline.slices.kind == KIND["unestimated"]).any()
            lines.append(
                f"  {device['name']}: {device['kernels']:,} instructions with an estimate, "
                f"{'at least ' if unknown else ''}{_cycles(device['busy_ns'])}"
            )
            continue
        busy, span = (units.duration(device[key], "ns") for key in ("busy_ns", "span_ns"))
        lines.append(f"  {device['name']}: {device['kernels']:,} kernels, busy {busy} of {span}{share}")
    for memory in found["memory"]:
        peak = "unknown" if memory["peak_bytes"] is None else units.memory(memory["peak_bytes"])
        lines.append(
            f"  memory of {memory['device']} ({memory['allocator']}): "
            f"{memory['events']:,} events, peak {peak}"
        )
    if found["overlaps"]:
        lines.append(f"  {found['overlaps']:,} slices overlap an earlier one of their stream")
    if found["dropped_events"]:
        lines.append(f"  the profiler dropped {found['dropped_events']:,} events")
    lines += [f"  warning: {text}" for text in found["warnings"]]
    return "\n".join(lines) + "\n"


def _cycles(cycles: int) -> str:
    return f"{cycles:,} cycles (estimated)"
