"""The folder of a run: the plan, one file for each finished piece of work, and the run file made of them.

Every file is written whole or not at all, so a run that was killed resumes after its last finished piece.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.files import write_json, writing
from fuseproof.runs import environment
from fuseproof.runs.plan import Plan

DEFAULT_ROOT = Path(".fuseproof/runs")


@dataclass(frozen=True, kw_only=True)
class RunDirectory:
    """What plan.json says, and access to the pieces, which are read from disk each time.

    environment: the machine and software at the start of the run (`environment.describe`).
    started: when the run started, ISO 8601.
    commit: of the folder in which the run was started (`environment.commit_info`).
    """

    path: Path
    plan: Plan
    environment: Mapping[str, Any]
    started: str
    commit: Mapping[str, Any]

    @classmethod
    def create(cls, plan: Plan, path: Path | None) -> RunDirectory:
        """A new folder for `plan`, by default under .fuseproof/runs, named after the time and the suite.

        Raises UserError if `path` holds a run already or cannot be written.
        """
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
            "environment": environment.describe(device=plan.settings.device, threads=plan.settings.threads),
            "datetime": environment.now(),
            "commit_info": environment.commit_info(),
        }
        write_json(path / "plan.json", document, indent=1)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """The run in the folder `path`. Raises UserError if there is none or its plan.json is damaged."""
        file = path / "plan.json"
        if not file.is_file():
            raise UserError(f"{path} is not a run directory: it holds no plan.json")
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            directory = cls(
                path=path,
                plan=Plan.from_json(document["plan"]),
                environment=document["environment"],
                started=document["datetime"],
                commit=document["commit_info"],
            )
            environment.fingerprint(directory.fingerprint_fields)
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from None
        except UserError as error:
            raise UserError(f"{file}: {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else error
            raise UserError(f"{file} is damaged ({what}); start a new run") from None
        return directory

    @classmethod
    def open_unfinished(cls, path: Path | None) -> RunDirectory:
        """The run to resume: that in `path`, else the newest under .fuseproof/runs that is not complete.

        Raises UserError if there is none, it is complete, damaged, or was started on another machine.
        """
        if path is None:
            unfinished = [
                folder.parent
                for folder in sorted(DEFAULT_ROOT.glob("*/plan.json"), reverse=True)
                if not _is_complete(folder.parent)
            ]
            if not unfinished:
                raise UserError(f"no unfinished run under {DEFAULT_ROOT}; start one with `fuseproof run`")
            path = unfinished[0]
        directory = cls.open(path)
        if _is_complete(path):
            raise UserError(
                f"{path} is complete, nothing is left to do; start a new run with `fuseproof run`"
            )
        directory.refuse_another_machine()
        return directory

    def refuse_another_machine(self, wanted: str = "resumed") -> None:
        """Raises UserError if a field of the fingerprint has changed since the run was started.

        wanted: what cannot be done then, for the message.
        """
        settings = self.plan.settings
        now = environment.fingerprint_fields(
            environment.describe(device=settings.device, threads=settings.threads), vars(settings)
        )
        changed = [key for key, value in self.fingerprint_fields.items() if now.get(key) != value]
        if changed:
            raise UserError(
                f"{self.path} cannot be {wanted}: {', '.join(changed)} changed since then; start a new run"
            )

    @property
    def fingerprint_fields(self) -> dict[str, Any]:
        """What must match before this run may be compared with another, by name."""
        return environment.fingerprint_fields(self.environment, vars(self.plan.settings))

    @property
    def caches(self) -> Path:
        """Compilers' caches, empty at first: the check compiles cold, the blocks compile warm from here."""
        return self.path.resolve() / "caches"

    def log(self, name: str) -> Path:
        """The file for what a process of the run writes to standard error."""
        return self.path / "logs" / f"{name}.log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from measuring into this folder. Raises UserError if one does."""
        with writing(self.path / "lock"):
            file = (self.path / "lock").open("w")
        with file:
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
        """The results of the checks of a case, by implementation."""
        found: dict[str, dict[str, Any]] = {}
        for framework in self.plan.frameworks:
            found.update((self.check(framework, case) or {}).get("rows", {}))
        return found

    def profiled(self, case: Case) -> dict[str, dict[str, Any]]:
        """The results of the profiles of a case, by implementation: `kernels` and `notes`."""
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
    """The JSON object in the file `path`, None without the file. Raises UserError if it holds anything else.

    Files are written whole, so it is never half of one; a disk or an editor may still have damaged it.
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
