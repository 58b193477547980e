"""What the TPU compiler says of one program, as records and as the JSON of `fuseproof compile --json`.

Every figure is the compiler's estimate, marked so (`"estimate": true`), except `measured_here`. Traps:

- FLOPs and bytes are those of the optimised program: work that a fusion repeats, as v6e does with attention's
  q kᵀ, counts again.
- What is counted over a program's text has a loop's body once. A program with a loop or branch has no FLOPs,
  bytes moved, seconds, cycles or instructions; `warning` says so.
- A Pallas kernel counts nothing but what its author writes into its CostEstimate.
- `temporary_bytes` are those in HBM. Temporaries may also lie in VMEM (128 MiB on v5e and v6e, 64 on v5p): 0
  does not mean that there are none. `peak_bytes`, the compiler's own figure, is arguments and results plus
  the fuller of the two.
- `estimated_cycles` are the sum over fusions and copies. A hand-written kernel has no estimate, so a program
  with one has none either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LABEL = "estimated by the compiler, not measured"
OK, SKIPPED, FAILED = "ok", "skipped", "failed"


@dataclass(frozen=True, kw_only=True)
class WithoutFusion:
    """The same program compiled with the fusion passes off; where that is impossible, only a `reason`."""

    reason: str | None = None
    computing_instructions: int | None = None
    bytes_accessed: int | None = None
    temporary_bytes: int | None = None
    peak_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        document = dict(vars(self))
        reason = document.pop("reason")
        return document if reason is None else {"reason": reason}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A compiled program. None is unknown; the module's docstring says what the figures leave out.

    versions:               of jax, jaxlib and libtpu.
    measured_here:          seconds of lowering and of compiling on this machine.
    optimal_seconds:        the compiler's own bound.
    donated_bytes:          of arguments whose memory results take.
    launched_instructions:  that run code of their own, moves of data too.
    computing_instructions: those that do more than move data; a GPU calls them kernels.
    kernels:                hand-written ones.
    custom_calls, collectives: counts by kind.
    vmem_bytes, schedule, memory_plan: as `profiling.readers` describes them; None if XLA's dump lacks them.
    warning:                what makes figures unreliable or unknown.
    """

    device_kind: str
    versions: Mapping[str, str]
    measured_here: Mapping[str, float]
    flops: int | None
    transcendentals: int | None
    bytes_accessed: int | None
    optimal_seconds: float | None
    argument_bytes: int
    output_bytes: int
    donated_bytes: int
    temporary_bytes: int
    peak_bytes: int
    code_bytes: int
    fusions: int
    fused_instructions: int
    launched_instructions: int | None
    computing_instructions: int | None
    custom_calls: Mapping[str, int]
    collectives: Mapping[str, int]
    kernels: int
    estimated_cycles: int | None
    vmem_bytes: int | None = None
    schedule: Sequence[Mapping[str, Any]] | None = None
    memory_plan: Mapping[str, Any] | None = None
    warning: str | None = None
    without_fusion: WithoutFusion | None = None

    def to_json(self) -> dict[str, Any]:
        document = dict(vars(self))
        warning, apart = document.pop("warning"), document.pop("without_fusion")
        return {
            **document,
            **({} if warning is None else {"warning": warning}),
            **({} if apart is None else {"without_fusion": apart.to_json()}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Figures:
        """The record of which `document`, which may hold more, is the JSON."""
        given = {
            field.name: document[field.name] for field in dataclasses.fields(cls) if field.name in document
        }
        if "without_fusion" in given:
            given["without_fusion"] = WithoutFusion(**given["without_fusion"])
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One implementation of one case for one target.

    chips:   chips that it is sharded over, arranged as `topology` says.
    status:  OK, SKIPPED or FAILED, the last two with a `reason` in one line.
    figures: of an OK program.
    """

    target: str
    topology: str
    chips: int
    case: str
    implementation: str
    status: str
    reason: str | None = None
    figures: Figures | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "topology": self.topology,
            "chips": self.chips,
            "case": self.case,
            "implementation": self.implementation,
            "estimate": True,
            "label": LABEL,
            "status": self.status,
            **({} if self.reason is None else {"reason": self.reason}),
            **({} if self.figures is None else self.figures.to_json()),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Result:
        """The record of which `document` is the JSON."""
        names = ("target", "topology", "chips", "case", "implementation", "status")
        return cls(
            **{name: document[name] for name in names},
            reason=document.get("reason"),
            figures=Figures.from_json(document) if document["status"] == OK else None,
        )
