"""The result of compiling one launch of a kernel for one GPU, as a record and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from fuseproof.profiling.ahead_of_time.triton.budget import Row
from fuseproof.profiling.ahead_of_time.triton.occupancy import Occupancy

OK, SKIPPED, FAILED, OVER_BUDGET = "ok", "skipped", "failed", "over budget"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one compiled launch uses: registers and spilled bytes per thread, shared bytes per block.

    tensor_memory:      columns per block (Blackwell).
    instructions:       counts by kind, None if they were not counted.
    instruction_source: where they were counted, `SASS` or `PTX`, else empty.
    kernel:             name of the jit function.
    """

    registers: int
    spill_bytes: int
    static_shared_bytes: int
    dynamic_shared_bytes: int
    num_warps: int
    num_stages: int
    tensor_memory: int
    instructions: Mapping[str, int] | None
    instruction_source: str
    kernel: str
    occupancy: Occupancy

    @property
    def shared_bytes(self) -> int:
        return self.static_shared_bytes + self.dynamic_shared_bytes

    @property
    def row(self) -> Row:
        """The row of the budget that allows exactly this."""
        return Row(
            registers=self.registers,
            spill_bytes=self.spill_bytes,
            shared_bytes=self.shared_bytes,
            occupancy_warps=self.occupancy.warps,
        )

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        occupancy = document.pop("occupancy")
        return {**document, "shared_bytes": self.shared_bytes, "occupancy": occupancy}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Usage:
        given = {field.name: document[field.name] for field in fields(cls)}
        occupancy = given["occupancy"]
        limiters = tuple(occupancy["limiters"])
        return cls(**given | {"occupancy": Occupancy(**occupancy | {"limiters": limiters})})


@dataclass(frozen=True, kw_only=True)
class Result:
    """One launch, compiled for one target and compared with the budget.

    operator: empty for a row of the budget that no launch has.
    status:   OK, SKIPPED, FAILED or OVER_BUDGET, all but the first with a `reason` in one line.
    usage:    None if the launch was not compiled.
    triton:   version of the compiler; None for a row of the budget that no launch has.
    compared: whether the launch was compared with the budget; its row is `budget`, None if there is none.
    """

    target: str
    operator: str
    dtype: str
    launch: str
    status: str
    reason: str | None = None
    usage: Usage | None = None
    triton: str | None = None
    compared: bool = False
    budget: Row | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data; keys that do not apply are left out."""
        document: dict[str, Any] = {
            "target": self.target,
            "operator": self.operator,
            "dtype": self.dtype,
            "launch": self.launch,
            "status": self.status,
        }
        reason = {} if self.reason is None else {"reason": self.reason}
        document |= reason if self.usage is None else self.usage.to_json()
        if self.triton is not None:
            document["triton"] = self.triton
        if self.compared:
            document["budget"] = None if self.budget is None else asdict(self.budget)
        return document | reason
