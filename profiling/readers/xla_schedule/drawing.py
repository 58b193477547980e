"""A compiled TPU program's static schedule, drawn as a timeline whose unit is the cycle.

Nothing here was measured. A schedule has an order and, for most instructions, the compiler's
`estimated_cycles`, but no times. Rules of the drawing:

- An instruction with an estimate is as wide as its cycles. They never overlap: the core runs them in order.
- An instruction without one (a hand-written kernel, a collective) is of kind `unestimated`, which no count
  includes. It is as wide as the mean of the estimated ones, or 10,000 cycles: its width means nothing.
- What runs no code (parameters, tuples, a loop itself) has no width. A loop's body is drawn once.
- Derived lanes show asynchronous copies and collectives from start to wait, and the lifetime of each value
  in memory.

Memory at each instruction is the compiler's assignment; bytes that values share count once. "planned, as the
peak counts" is arguments and results plus the fuller of HBM's and VMEM's temporaries: its highest point is
the compiler's `peak_memory_in_bytes`, except for programs that carry a warning. HBM's series includes
arguments and results; VMEM's includes what an instruction's code takes for itself while it runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from fuseproof import units
from fuseproof.errors import UserError
from fuseproof.fusion.programs import hlo
from fuseproof.profiling.readers.xla_schedule import dumps
from fuseproof.profiling.timeline.assemble import Found, assemble
from fuseproof.profiling.timeline.model import MEMORY_ACTION, Column, Lane, Memory, Timeline, kind_codes

WIDTH_WITHOUT_ESTIMATES: Final = 10_000  # cycles
_ESTIMATE: Final = "compile-time estimate"
_CONTROL: Final = ("while", "conditional", "call", "async-start", "async-update", "async-done")
_ASYNCHRONOUS: Final = re.compile(r"-(start|update|done)$")
_SCHEDULE, _ASYNC, _BUFFERS = 0, 1, 2  # lanes; the first of `_BUFFERS`, one for each memory space


def to_timeline(result: Mapping[str, Any], name: str) -> Timeline:
    """The timeline of one result of `fuseproof compile` (or of `describe`).

    Raises UserError if the result has no schedule in that form.
    """
    try:
        return _Drawing(result).timeline(name)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        kind = type(error).__name__
        raise UserError(f"{name}: no schedule as `fuseproof compile` writes it ({kind}: {error})") from None


class _Drawing:
    """Slices, memory and warnings of one result; time is in cycles since the program's start."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.result = result
        self.schedule: Sequence[Mapping[str, Any]] = result["schedule"]
        self.device = f"{result.get('device_kind') or 'TPU'} (planned)"
        for step in self.schedule:
            texts = (step["instruction"], step["opcode"] or "", step["op_name"] or "")
            if not all(isinstance(text, str) for text in texts) or not _is_count(step["fused"]):
                raise ValueError(f"an instruction is {str(step)[:80]}")
        estimates = [step["estimated_cycles"] for step in self.schedule]
        known = [cycles for cycles in estimates if cycles is not None]
        if not all(map(_is_count, known)):
            raise ValueError("estimated_cycles must be whole numbers")
        self.nominal = round(sum(known) / len(known)) if known else WIDTH_WITHOUT_ESTIMATES
        self.unestimated = [
            cycles is None and _runs(step["opcode"])
            for cycles, step in zip(estimates, self.schedule, strict=True)
        ]
        width = [
            cycles if cycles is not None else self.nominal if unknown else 0
            for cycles, unknown in zip(estimates, self.unestimated, strict=True)
        ]
        ends = np.cumsum(np.array(width, np.int64))
        self.start: list[int] = (ends - width).tolist()
        self.end: list[int] = ends.tolist()
        self.names: dict[str, int] = {}
        self.slices: list[tuple[int, int, int, int, str]] = []  # lane, start, end, name, kind
        self.facts: dict[str, dict[int, int]] = {}

    def timeline(self, name: str) -> Timeline:
        lanes = self._lanes()
        self._instructions()
        self._asynchronous()
        self._buffers()
        lane, start, end, named, kinds = zip(*self.slices, strict=True) if self.slices else ((),) * 5
        starts = np.array(start, np.int64)
        found = Found(
            lane=np.array(lane, np.int32),
            start_ns=starts,
            duration_ns=np.array(end, np.int64) - starts,
            name=np.array(named, np.int32),
            kind=kind_codes(kinds),
            correlation=np.full(len(starts), -1, np.int64),
            columns=self._columns(),
        )
        memory = self._memory()
        made = assemble(
            found,
            lanes,
            list(self.names),
            source="tpu-static",
            name=name,
            memory=memory,
            warnings=list(self._warnings()),
            notes=self._notes(),
        )
        return replace(made, time_unit="cycles")

    def _lanes(self) -> list[Lane]:
        found = {b["space"] for b in self.result["memory_plan"]["buffers"]}
        known = list(dumps.SPACES.values())
        spaces = [space for space in known if space in found] + sorted(found.difference(known))
        self.spaces = {space: _BUFFERS + i for i, space in enumerate(spaces)}
        titles = ["schedule", "in flight, start to wait", *(f"values in {space}" for space in spaces)]
        return [
            Lane(name=title, kind="static", device=self.device, derived=i > 0)
            for i, title in enumerate(titles)
        ]

    def _add(self, lane: int, start: int, end: int, name: str, kind: str, **facts: int | str | None) -> None:
        number = len(self.slices)
        self.slices.append((lane, start, end, self._name(name), kind))
        for key, value in facts.items():
            if value is not None:
                known = self._name(value) if isinstance(value, str) else value
                self.facts.setdefault(key, {})[number] = known

    def _name(self, text: str) -> int:
        return self.names.setdefault(text, len(self.names))

    def _instructions(self) -> None:
        for i, step in enumerate(self.schedule):
            if self.end[i] > self.start[i]:
                kind = "unestimated" if self.unestimated[i] else _kind(str(step["opcode"]))
                self._add(
                    _SCHEDULE,
                    self.start[i],
                    self.end[i],
                    step["instruction"],
                    kind,
                    framework_op=step["op_name"],
                    hlo_category=step["opcode"],
                    instructions_fused=step["fused"] or None,
                    cycles=step["estimated_cycles"],
                )

    def _asynchronous(self) -> None:
        """Slices from `copy-start.3` to `copy-done.3`, which XLA names alike."""
        started: dict[str, int] = {}
        for i, step in enumerate(self.schedule):
            opcode, name = str(step["opcode"]), str(step["instruction"])
            if opcode.endswith("-start"):
                started[name.replace("-start", "", 1)] = i
            elif opcode.endswith("-done"):
                begun = started.pop(name.replace("-done", "", 1), None)
                if begun is not None:
                    kind = _kind(opcode)
                    self._add(_ASYNC, self.start[begun], self.end[i], name.replace("-done", "", 1), kind)

    def _buffers(self) -> None:
        for buffer in self.result["memory_plan"]["buffers"]:
            index = buffer["index"] if buffer["index"] != "{}" else ""
            last = min(buffer["last_step"], len(self.schedule) - 1)
            self._add(
                self.spaces[buffer["space"]],
                self.start[buffer["first_step"]],
                self.end[last],
                f"{buffer['instruction']}{index}",
                "other",
                bytes=buffer["bytes"],
                offset=buffer["offset"],
            )

    def _columns(self) -> dict[str, Column]:
        spelled = ("framework_op", "hlo_category")
        return {
            key: Column(
                index=np.array(list(values), np.int64),
                value=np.array(list(values.values()), np.int64),
                origin=_ESTIMATE if key == "cycles" else "compiler",
                names=key in spelled,
            )
            for key, values in self.facts.items()
        }

    def _memory(self) -> list[Memory]:
        resident = self.result["memory_plan"]["resident_bytes"]
        hbm = [step["hbm_live_bytes"] for step in self.schedule]
        vmem = [step["vmem_live_bytes"] for step in self.schedule]
        used = [v + step["vmem_scoped_bytes"] for v, step in zip(vmem, self.schedule, strict=True)]
        fuller = [max(h, resident + v) for h, v in zip(hbm, vmem, strict=True)]
        peak = self.result.get("peak_bytes")
        if peak is not None and not _is_count(peak):
            raise ValueError("peak_bytes must be a whole number")
        return [
            self._series("planned, as the peak counts", fuller, stated=peak),
            self._series("planned, HBM", hbm),
            self._series("planned, VMEM", used),
        ]

    def _series(self, allocator: str, live: Sequence[int], *, stated: int | None = None) -> Memory:
        count = len(live)
        return Memory(
            allocator=allocator,
            device=self.device,
            semantics="static-plan",
            time_ns=np.array(self.start, np.int64),
            action=np.full(count, MEMORY_ACTION["resize"], np.uint8),
            address=np.zeros(count, np.uint64),
            size=np.diff(np.array([0, *live], np.int64)).astype(np.int64),
            allocated=np.array(live, np.float64),
            reserved=np.full(count, np.nan),
            label=np.array([self._name(step["instruction"]) for step in self.schedule], np.int32),
            stated_peak_bytes=stated,
        )

    def _warnings(self) -> list[str]:
        warnings = []
        unestimated = sum(self.unestimated)
        if unestimated:
            rule = "the mean of the others" if self.nominal and self._any_estimate() else "none has one"
            warnings.append(
                f"{units.count(unestimated, 'instruction')} of the schedule without an estimate: drawn "
                f"{self.nominal:,} cycles wide ({rule}), which means nothing, and not counted"
            )
        if self.result.get("warning"):
            warnings.append(str(self.result["warning"]))
        return warnings

    def _any_estimate(self) -> bool:
        return any(step["estimated_cycles"] is not None for step in self.schedule)

    def _notes(self) -> dict[str, str]:
        result = self.result
        versions = {f"{name} version": str(text) for name, text in (result.get("versions") or {}).items()}
        kept = ("target", "topology", "case", "implementation", "device_kind")
        figures = ("peak_bytes", "argument_bytes", "output_bytes", "temporary_bytes", "vmem_bytes", "flops")
        return {
            **{key.replace("_", " "): str(result[key]) for key in kept if result.get(key)},
            **{
                f"{key.replace('_', ' ')} (estimate)": f"{result[key]:,}"
                for key in figures
                if isinstance(result.get(key), int)
            },
            **versions,
        }


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _runs(opcode: str | None) -> bool:
    """Whether the core runs code for an instruction while the others wait."""
    if opcode is None:
        return True
    return opcode not in hlo.FREE_OPCODES and opcode not in _CONTROL and not _ASYNCHRONOUS.search(opcode)


def _kind(opcode: str) -> str:
    plain = _ASYNCHRONOUS.sub("", opcode)
    if plain in hlo.COLLECTIVES:
        return "collective"
    return "memcpy" if plain == "copy" else "kernel"
