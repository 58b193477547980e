"""The worker that reads programs: a measuring worker that also answers `account`.

Started as `python -m fuseproof.fusion.account_worker FRAMEWORK SETTINGS`, driven like fuseproof.worker, whose
inputs, steps and peak memory it uses, so that they are those of a run.
"""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

from fuseproof import worker
from fuseproof.errors import UserError
from fuseproof.fusion.kernel_count import kernels_per_call
from fuseproof.fusion.program import Reading
from fuseproof.implementations import Implementation
from fuseproof.worker import Worker


class AccountWorker(Worker):
    """Answers `account` about one implementation of the open case."""

    def account(
        self, *, implementation: dict[str, Any], eager: dict[str, Any], folder: str
    ) -> dict[str, Any]:
        """What the compiler made of `implementation`; `eager` is what it is compared with.

        Files are kept in `folder`, which is made. Plain data: `kernels` and `peak_memory_bytes`, each
        {"eager", "compiled"}; `before`, `after`: operations or None; `artifacts`; `unknown`: reasons by name.
        """
        row, reference = Implementation(**implementation), Implementation(**eager)
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        program = importlib.import_module(f"fuseproof.fusion.{row.framework}_program")
        unknown: dict[str, str] = {}
        figures: dict[str, dict[str, Any]] = {"kernels": {}, "peak_memory_bytes": {}}
        if reference.name not in self._prepared:
            self.prepare(implementation=eager)
        earlier = _machine_code()
        with program.compiling(place):
            self.prepare(implementation=implementation)
        sides = {"eager": reference.name, "compiled": row.name}
        # Before any profiler runs: what that frees without giving it back would hide the growth of a call.
        for side, name in sides.items():
            memory = self.peak_memory(name=name)["bytes"]
            figures["peak_memory_bytes"][side] = memory
            if memory is None:
                unknown[f"peak_memory_{side}"] = (
                    "neither the framework nor the operating system tells it here"
                )
        for side, name in sides.items():
            figures["kernels"][side] = self._count(row.framework, name, f"kernels_{side}", unknown)
        inputs, cotangent = self._tensors[row.layout][0]
        reading: Reading = program.read(
            self._prepared[row.name].step,
            inputs,
            cotangent,
            compiled=row.compiled or "",
            eager=self._prepared[reference.name].calls[0],
            folder=place,
        )
        artifacts = dict(reading.artifacts)
        for file in sorted(_machine_code() - earlier):
            shutil.copyfile(file, place / file.name)
            artifacts[f"PTX {file.stem}"] = file.name
        return {
            **figures,
            "before": _plain(reading.before),
            "after": _plain(reading.after),
            "artifacts": artifacts,
            "unknown": {**unknown, **reading.unknown},
        }

    def _count(self, framework: str, name: str, figure: str, unknown: dict[str, str]) -> int | None:
        call = self._prepared[name].calls[0]
        try:
            return kernels_per_call(framework, lambda: self._framework.synchronize(call()))
        except UserError as error:
            unknown[figure] = str(error)
            return None


def _plain(operations: Any) -> list[dict[str, Any]] | None:
    return None if operations is None else [operation.to_json() for operation in operations]


def _machine_code() -> set[Path]:
    """PTX that Triton and XLA have written: only where there is a GPU."""
    folder = os.environ.get("FUSEPROOF_CACHES")
    return set(Path(folder).rglob("*.ptx")) if folder else set()


if __name__ == "__main__":
    worker.main(AccountWorker)
