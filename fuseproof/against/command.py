"""What is measured in a checkout: benchmarks of pytest, or a run of Fuseproof; one call is one block."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuseproof.against.checkout import Checkout, is_code_of
from fuseproof.errors import UserError
from fuseproof.runs import run_file
from fuseproof.runs.records import Failure, Run

# Of pytest: all passed; some failed.
_PYTEST_MEASURED = (0, 1)
_PLUGIN = Path(__file__).with_name("pytest_turn.py")


@dataclass(frozen=True, kw_only=True)
class Command:
    """`pytest` or `run`, and its arguments as the user gave them."""

    program: str
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, words: Sequence[str]) -> Command:
        """Raises UserError for anything but `pytest …` and `run …`."""
        if not words or words[0] not in ("pytest", "run"):
            raise UserError(
                "say after -- what to measure: `-- pytest tests/bench` for benchmarks of pytest-benchmark, "
                "`-- run SUITE` for a suite or workloads of yours"
            )
        return cls(program=words[0], arguments=tuple(words[1:]))

    def measure(
        self, checkout: Checkout, output: Path, only: Sequence[Run] = (), names: Sequence[str] = ()
    ) -> Run:
        """One block: what `checkout` measures now.

        names: only these benchmarks, which the runs of `only` hold.
        Raises UserError if nothing could be measured; its output is kept beside `output`.
        """
        environment, turn = checkout.environment, output.with_suffix(".turn")
        if self.program == "run":
            groups = dict.fromkeys(b.group for run in only for b in run.benchmarks if b.name in set(names))
            words = [*("-m", "fuseproof", "run", *self.arguments, *(f"--case={group}" for group in groups))]
            words += ["--blocks", "1", "--max-blocks", "1", "--no-profile", "--quiet", "-o", str(output)]
        else:
            words = ["-m", "pytest", *self.arguments, "-p", _PLUGIN.stem, f"--benchmark-json={output}"]
            shutil.copy(_PLUGIN, output.parent)
            turn.write_text(json.dumps({"only": list(names)}), encoding="utf-8")
            environment["FUSEPROOF_TURN"] = str(turn)
            environment["PYTHONPATH"] += f"{os.pathsep}{output.parent}"
        log = output.with_suffix(".log")
        with log.open("w", encoding="utf-8") as file:
            done = subprocess.run(
                [checkout.python, *words],
                cwd=checkout.working_folder,
                env=environment,
                stdout=file,
                stderr=file,
                check=False,
            )
        measured = done.returncode in _PYTEST_MEASURED if self.program == "pytest" else done.returncode == 0
        if not measured or not run_file.file_of(output).is_file():
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"]
            raise UserError(
                f"{checkout.label} ({checkout.commit[:12]}) could not be measured: {self.program} ended with "
                f"{done.returncode}: {said[-1][:200]}; its output is in {log}"
            )
        run = run_file.load(output)
        if self.program == "run":
            return run
        told = json.loads(turn.read_text(encoding="utf-8"))
        _refuse_code_of_another(checkout, told["imported"], told["environments"])
        failed = set(told["failed"])
        return replace(
            run,
            benchmarks=tuple(each for each in run.benchmarks if each.name not in failed),
            failures=tuple(_failure(name) for name in sorted(failed)),
            notes=(*run.notes, *(f"{checkout.label}: {name} failed" for name in sorted(failed))),
        )


def _refuse_code_of_another(checkout: Checkout, imported: Sequence[str], environments: Sequence[str]) -> None:
    if checkout.other is None:
        return
    for file in imported:
        if is_code_of(checkout.other, Path(file), environments):
            raise UserError(
                f"{checkout.label} imported {file} of head, so that it measured head's code; "
                "give base a Python of its own with --base-python"
            )


def _failure(name: str) -> Failure:
    """Of a test, benchmark or not, known by its name: a group of pytest-benchmark says nothing of it."""
    return Failure(group=name, implementation="", kind="error", stage="measure", message="the test failed")
