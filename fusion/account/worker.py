"""The worker that reads programs: a measuring worker that also answers `account`.

`python -m fuseproof.fusion.account.worker FRAMEWORK` is driven like fuseproof.measure.worker, whose inputs,
steps and peak memory it uses, so that they are those of a run.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuseproof.fusion.programs.operations import Operation, Reading
from fuseproof.implementations import Implementation
from fuseproof.measure import worker
from fuseproof.measure.worker import Worker


class AccountWorker(Worker):
    """Answers `account` about one implementation of the open case."""

    def open_case(self, **arguments: Any) -> dict[str, Any]:
        # Several implementations are compared with one: its peak is measured once.
        self._peaks: dict[str, int | None] = {}
        return super().open_case(**arguments)

    def account(
        self, *, implementation: dict[str, Any], eager: dict[str, Any], folder: str
    ) -> dict[str, Any]:
        """What the compiler made of `implementation`, compared with `eager`; both stay prepared.

        Files are kept in `folder`, which is created. Gives `peak_memory_bytes` of each side, `before` and
        `after` (operations or None), `artifacts`, and `unknown`, reasons by name.
        """
        compiled, reference = Implementation.from_json(implementation), Implementation.from_json(eager)
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        program = importlib.import_module(f"fuseproof.fusion.programs.{compiled.framework}")
        if reference.name not in self._prepared:
            self.prepare(implementation=eager)
        earlier = _machine_code()
        with program.compiling(place):
            self.prepare(implementation=implementation)
        unknown: dict[str, str] = {}
        memory: dict[str, int | None] = {}
        for side, each in (("eager", reference), ("compiled", compiled)):
            if each.name not in self._peaks:
                self._peaks[each.name] = self.peak_memory(name=each.name)["bytes"]
            memory[side] = peak = self._peaks[each.name]
            reason = None
            if peak is None:
                reason = "neither the framework nor the system reports it here"
            elif not each.consumes:  # else a result may lie in an input's memory
                reason = self._case.reason_against_peak(peak)
            if reason is not None:
                memory[side], unknown[f"peak_memory_{side}"] = None, reason
        reading: Reading = program.read(
            self._prepared[compiled.name].calls[0],
            compiled=compiled.compiled or "",
            eager=self._prepared[reference.name].calls[0],
            folder=place,
        )
        artifacts = dict(reading.artifacts)
        for number, file in enumerate(sorted(_machine_code() - earlier), 1):
            # Numbered, as autotuning compiles kernels of one name in several configurations.
            name = f"{number}-{file.name}"
            shutil.copyfile(file, place / name)
            artifacts[f"PTX {name}"] = name
        return {
            "peak_memory_bytes": memory,
            "before": _plain(reading.before),
            "after": _plain(reading.after),
            "artifacts": artifacts,
            "unknown": {**unknown, **reading.unknown},
        }


def _plain(operations: Sequence[Operation] | None) -> list[dict[str, Any]] | None:
    return None if operations is None else [operation.to_json() for operation in operations]


def _machine_code() -> set[Path]:
    """PTX that Triton and XLA have written: only where there is a GPU."""
    folder = os.environ.get("FUSEPROOF_COMPILER_OUTPUT")
    return set(Path(folder).rglob("*.ptx")) if folder else set()


if __name__ == "__main__":
    worker.main(AccountWorker)
