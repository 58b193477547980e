"""The folder of a run: the plan, one file for each finished piece of work, and the run file made of them.

Every file is written whole or not at all, so a run that was killed goes on from its last finished piece.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from fuseproof import checks, environment
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation
from fuseproof.plan import Plan
from fuseproof.run_file import Benchmark, Failure, Run, run_to_json, write_json

DEFAULT_ROOT = Path(".fuseproof/runs")


class RunDirectory:
    """Reads and writes the pieces; holds no state but what is on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        document = json.loads((path / "plan.json").read_text(encoding="utf-8"))
        self.plan = Plan.from_json(document["plan"])
        self.environment: Mapping[str, Any] = document["environment"]
        self._started: str = document["datetime"]
        self._commit: Mapping[str, Any] = document["commit_info"]

    @classmethod
    def create(cls, plan: Plan, path: Path | None) -> RunDirectory:
        """A new folder; named by time and suite under .fuseproof/runs unless given. Raises UserError."""
        if path is None:
            stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
            path = DEFAULT_ROOT / f"{stamp}-{plan.suite}"
            number = 1
            while path.exists():
                number += 1
                path = DEFAULT_ROOT / f"{stamp}-{plan.suite}-{number}"
        elif (path / "plan.json").exists():
            raise UserError(
                f"{path} holds a run already; finish it with --resume {path} or choose another folder"
            )
        document = {
            "plan": plan.to_json(),
            "environment": environment.capture(device=plan.settings.device, threads=plan.settings.threads),
            "datetime": environment.now(),
            "commit_info": environment.commit_info(),
        }
        write_json(path / "plan.json", document, indent=1)
        return cls(path)

    @classmethod
    def open_unfinished(cls, path: Path | None) -> RunDirectory:
        """The run to resume: the one given, else the newest that is not complete. Raises UserError."""
        if path is None:
            unfinished = [
                folder.parent
                for folder in sorted(DEFAULT_ROOT.glob("*/plan.json"), reverse=True)
                if not _is_complete(folder.parent)
            ]
            if not unfinished:
                raise UserError(f"no unfinished run under {DEFAULT_ROOT}; start one with `fuseproof run`")
            path = unfinished[0]
        if not (path / "plan.json").is_file():
            raise UserError(f"{path} is not a run: it holds no plan.json")
        if _is_complete(path):
            raise UserError(
                f"{path} is complete, nothing is left to do; start a new run with `fuseproof run`"
            )
        try:
            directory = cls(path)
            environment.fingerprint(directory.fingerprint_fields)
        except OSError as error:
            raise UserError(f"cannot read {path / 'plan.json'}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path / 'plan.json'} is damaged ({error}); start a new run") from None
        directory.refuse_another_machine()
        return directory

    def refuse_another_machine(self) -> None:
        """Raises UserError if what a fingerprint holds has changed since the run was started."""
        settings = self.plan.settings
        now = environment.fingerprint_fields(
            environment.capture(device=settings.device, threads=settings.threads), vars(settings)
        )
        changed = [key for key, value in self.fingerprint_fields.items() if now.get(key) != value]
        if changed:
            raise UserError(
                f"{self.path} cannot be resumed: {', '.join(changed)} changed since then; start a new run"
            )

    @property
    def fingerprint_fields(self) -> dict[str, Any]:
        return environment.fingerprint_fields(self.environment, vars(self.plan.settings))

    @property
    def caches(self) -> Path:
        """Compilers' caches, empty at first: the check compiles cold, the blocks compile warm from here."""
        return self.path.resolve() / "caches"

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from measuring into this folder. Raises UserError if one does."""
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"{self.path} is being measured by another process") from None
            yield

    def captures(self, case: Case) -> Path:
        """The folder of a case's captures, one in it for each implementation."""
        return self.path / "captures" / self._number(case)

    # A check or a profile is one case of one framework; a cell is one case in one block.

    def check(self, framework: str, case: Case) -> dict[str, Any] | None:
        return _read(self._check_path(framework, case))

    def save_check(self, framework: str, case: Case, record: Mapping[str, Any]) -> None:
        write_json(self._check_path(framework, case), record)

    def profile(self, framework: str, case: Case) -> dict[str, Any] | None:
        return _read(self._profile_path(framework, case))

    def save_profile(self, framework: str, case: Case, record: Mapping[str, Any]) -> None:
        write_json(self._profile_path(framework, case), record)

    def cell(self, block: int, case: Case) -> dict[str, Any] | None:
        return _read(self._cell_path(block, case))

    def save_cell(self, block: int, case: Case, record: Mapping[str, Any]) -> None:
        write_json(self._cell_path(block, case), record)

    def _check_path(self, framework: str, case: Case) -> Path:
        return self.path / "checks" / f"{framework}-{self._number(case)}.json"

    def _profile_path(self, framework: str, case: Case) -> Path:
        return self.path / "profiles" / f"{framework}-{self._number(case)}.json"

    def _cell_path(self, block: int, case: Case) -> Path:
        return self.path / "blocks" / f"{block:03d}-{self._number(case)}.json"

    def _number(self, case: Case) -> str:
        return f"{self.plan.cases.index(case):03d}"

    def checked(self, case: Case) -> dict[str, dict[str, Any]]:
        """What the checks found of each implementation of a case, by name."""
        found: dict[str, dict[str, Any]] = {}
        for framework in self.plan.frameworks:
            found.update((self.check(framework, case) or {}).get("rows", {}))
        return found

    def profiled(self, case: Case) -> dict[str, dict[str, Any]]:
        """What the profiles found of each implementation of a case, by name: `kernels` and `notes`."""
        found: dict[str, dict[str, Any]] = {}
        for framework in self.plan.frameworks:
            found.update((self.profile(framework, case) or {}).get("rows", {}))
        return found

    def failures_of_check(self, case: Case) -> list[Failure]:
        """Skips and errors of the checks of a case, wrong results among them."""
        return _failures(self.plan, case, self.checked(case))

    def measurable(self, case: Case) -> tuple[Implementation, ...]:
        """The implementations of a case that passed their check: only these are timed."""
        found = self.checked(case)
        return _passed(self.plan, case, found, _failures(self.plan, case, found))

    def assemble(self, *, complete: bool) -> Run:
        """The run so far, from the pieces on disk."""
        benchmarks: list[Benchmark] = []
        failures = list(self.plan.skipped)
        notes: list[str] = []
        for case in self.plan.cases:
            found, profiled = self.checked(case), self.profiled(case)
            notes += [
                f"profile of {name}, {case.group}: {note}"
                for name, profile in profiled.items()
                for note in profile["notes"]
            ]
            failed = _failures(self.plan, case, found)
            failures += failed
            cells = {
                block: cell
                for block in range(self.plan.settings.max_blocks)
                if (cell := self.cell(block, case)) is not None
            }
            messages = {
                name: message for cell in cells.values() for name, message in cell["failures"].items()
            }
            failures += [
                Failure(group=case.group, implementation=name, kind="error", stage="measure", message=message)
                for name, message in messages.items()
            ]
            for row in _passed(self.plan, case, found, failed):
                kernels = profiled.get(row.name, {}).get("kernels")
                benchmarks += self._benchmarks(case, row, cells, found, kernels)
        frameworks = {
            framework: record["description"]
            for framework in self.plan.frameworks
            for case in self.plan.cases
            if (record := self.check(framework, case)) is not None and record["description"]
        }
        fields = self.fingerprint_fields
        return Run(
            source=str(self.path),
            suite=self.plan.suite,
            fingerprint=environment.fingerprint(fields),
            fingerprint_fields=fields,
            environment={**self.environment, "frameworks": frameworks},
            machine_info=environment.machine_info(),
            commit_info=self._commit,
            datetime=self._started,
            complete=complete,
            benchmarks=tuple(benchmarks),
            failures=tuple(failures),
            notes=tuple(notes),
            settings={**vars(self.plan.settings), "command": list(self.plan.command)},
        )

    def write_run_file(self, *, complete: bool) -> Run:
        run = self.assemble(complete=complete)
        write_json(self.path / "run.json", run_to_json(run))
        return run

    def remove_caches(self) -> None:
        shutil.rmtree(self.caches, ignore_errors=True)

    def _benchmarks(
        self,
        case: Case,
        row: Implementation,
        cells: Mapping[int, Mapping[str, Any]],
        found: Mapping[str, Mapping[str, Any]],
        kernels: int | None,
    ) -> list[Benchmark]:
        check = found[row.name]
        verdict = _verdict(found, row, case)
        by_metric: dict[str, tuple[list[float], list[int], list[int]]] = {}
        for block, cell in cells.items():
            for leg, samples in enumerate(cell["legs"].get(row.name, ())):
                for metric, values in samples.items():
                    seconds, blocks, legs = by_metric.setdefault(metric, ([], [], []))
                    seconds += values
                    blocks += [block] * len(values)
                    legs += [leg] * len(values)
        return [
            Benchmark(
                name=case.benchmark_name(row.name, metric),
                group=case.group,
                seconds=np.asarray(seconds, dtype=np.float64),
                block=np.asarray(blocks, dtype=np.int64),
                leg=np.asarray(legs, dtype=np.int64),
                operator=case.operator.name,
                shape=case.operator.label,
                dtype=case.dtype,
                pass_=case.pass_,
                implementation=row.name,
                metric=metric,
                cache=case.cache,
                framework=row.framework,
                device=self.plan.settings.device,
                baseline=row.baseline,
                compile_seconds=check["compile_seconds"],
                peak_memory_bytes=check["peak_memory_bytes"],
                flops=case.operator.flops(case.pass_),
                bytes=case.operator.minimum_bytes(case.pass_, case.dtype),
                kernels=kernels,
                error_relative_rms=verdict.relative_rms,
                error_limit=verdict.limit,
            )
            for metric, (seconds, blocks, legs) in by_metric.items()
        ]


def _failures(plan: Plan, case: Case, found: Mapping[str, Mapping[str, Any]]) -> list[Failure]:
    failures = []
    for row in plan.rows_of(case):
        record = found.get(row.name)
        if record is None:
            continue
        kind, message = record["status"], record.get("message", "")
        if kind == "ran":
            verdict = _verdict(found, row, case)
            if verdict.passed:
                continue
            kind, message = "error", verdict.message
        failures.append(
            Failure(group=case.group, implementation=row.name, kind=kind, stage="check", message=message)
        )
    return failures


def _passed(
    plan: Plan, case: Case, found: Mapping[str, Mapping[str, Any]], failures: Sequence[Failure]
) -> tuple[Implementation, ...]:
    failed = {failure.implementation for failure in failures}
    return tuple(row for row in plan.rows_of(case) if row.name in found and row.name not in failed)


def _verdict(found: Mapping[str, Mapping[str, Any]], row: Implementation, case: Case) -> checks.Verdict:
    def errors(name: str) -> dict[str, float] | None:
        record = found.get(name)
        if record is None or record["status"] != "ran":
            return None
        return {key: np.nan if value is None else value for key, value in record["errors"].items()}

    own = errors(row.name)
    assert own is not None
    baseline = None if row.baseline == row.name else errors(row.baseline)
    return checks.judge(own, baseline, dtype=case.dtype, longest=case.operator.longest_axis)


def _is_complete(path: Path) -> bool:
    run = _read(path / "run.json")
    return run is not None and bool((run.get("fuseproof") or {}).get("complete"))


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON document at `path`; None if there is none. Raises UserError for one that is not ours.

    Files appear whole, so it cannot be half; a disk or an editor may still have damaged it.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and it is made again") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} is damaged (not a JSON object); delete it and it is made again")
    return document
