"""The folder of a run: the plan, one file for each finished piece of work, and the run file made of them.

Every file is written whole or not at all, so a run that was killed goes on from its last finished piece.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.files import write_json
from fuseproof.runs import environment
from fuseproof.runs.plan import Plan

DEFAULT_ROOT = Path(".fuseproof/runs")


class RunDirectory:
    """Reads and writes the pieces; holds no state but what is on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        document = json.loads((path / "plan.json").read_text(encoding="utf-8"))
        self.plan = Plan.from_json(document["plan"])
        self.environment: Mapping[str, Any] = document["environment"]
        self.started: str = document["datetime"]
        self.commit: Mapping[str, Any] = document["commit_info"]

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

    def refuse_another_machine(self, wanted: str = "resumed") -> None:
        """Raises UserError if what a fingerprint holds has changed since the run was started."""
        settings = self.plan.settings
        now = environment.fingerprint_fields(
            environment.capture(device=settings.device, threads=settings.threads), vars(settings)
        )
        changed = [key for key, value in self.fingerprint_fields.items() if now.get(key) != value]
        if changed:
            raise UserError(
                f"{self.path} cannot be {wanted}: {', '.join(changed)} changed since then; start a new run"
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

    def remove_caches(self) -> None:
        shutil.rmtree(self.caches, ignore_errors=True)


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
