"""The folder of a run: the plan, one file for each finished piece of work, and the run file made of them.

Every file is written whole or not at all, so a run that was killed resumes after its last finished piece.
A run holds one plan, one method and one version of each kernel: plan.json has their hashes, every piece the
plan's.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.files import create_json, writing_to
from fuseproof.implementations import sources
from fuseproof.runs import environment
from fuseproof.runs.lock import Lock
from fuseproof.runs.pieces import SCHEMA, Piece, Pieces, digest, read
from fuseproof.runs.plan import Plan

DEFAULT_ROOT = Path(".fuseproof/runs")


class _Processor(msgspec.Struct):
    model: str
    cores: int
    last_level_cache_bytes: int


class _Environment(msgspec.Struct):
    """What is read of `environment` in plan.json."""

    device: str
    threads: int
    cpu: _Processor
    gpu: list[dict[str, Any]]
    os: str
    python: str
    packages: dict[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunDirectory:
    """What plan.json says, and access to the pieces.

    environment: the machine and software at the start of the run (`environment.describe`).
    started: when the run started, ISO 8601.
    commit: of the folder in which the run was started (`environment.commit_info`).
    method: the way of measuring (`environment.METHOD`) that the run was started with.
    sources: SHA-256 of the files that each implementation is made of (`sources.hashes`), by
        `OPERATOR NAME`; of those that come with Fuseproof all together, as `fuseproof`.
    hash: of plan.json, which every piece carries; None for a run of schema 1.

    `create` and `open_unfinished` hold the folder's lock until `locked` ends; they read every piece that is
    there once, and what is on disk then is only written to (`Pieces`).
    """

    path: Path
    plan: Plan
    environment: Mapping[str, Any]
    started: str
    commit: Mapping[str, Any]
    method: int
    sources: Mapping[str, Mapping[str, str]]
    hash: str | None
    _pieces: Pieces
    _lock: Lock
    _mended: list[str] = field(default_factory=list)

    @classmethod
    def create(cls, plan: Plan, path: Path | None) -> RunDirectory:
        """A new folder for `plan`, by default under .fuseproof/runs, named after the time and the suite.

        Raises UserError if `path` holds a run already, is no folder, or cannot be written; of several
        processes that create the same one, in all but one.
        """
        path = new_folder(plan.suite) if path is None else path
        if path.exists() and not path.is_dir():
            raise UserError(f"cannot write to {path}: it is a file; choose a folder for the run")
        if (path / "plan.json").exists():
            raise _holds_a_run(path)
        with writing_to(path):
            path.mkdir(parents=True, exist_ok=True)
        lock = Lock(path)
        lock.acquire()
        outside = [each for each in plan.implementations if each.is_foreign]
        builtin = {
            each.target.rpartition(":")[0]: each for each in plan.implementations if each not in outside
        }
        own = [sources.hashes(each) for each in builtin.values()]
        content = {
            "schema": SCHEMA,
            "id": secrets.token_hex(8),  # the pieces of a second run of the same plan are not this run's
            "method": environment.METHOD,
            "plan": plan.to_json(),
            "sources": {
                "fuseproof": {path: value for files in own for path, value in files.items()},
                **{f"{each.workload} {each.name}": sources.hashes(each) for each in outside},
            },
            "environment": environment.describe(device=plan.settings.device, threads=plan.settings.threads),
            "datetime": environment.now(),
            "commit_info": environment.commit_info(),
        }
        document = json.loads(json.dumps(content))
        document["sha256"] = digest(document)
        try:
            create_json(path / "plan.json", document)
        except FileExistsError:
            raise _holds_a_run(path) from None
        directory = cls._from_document(document, path, lock)
        directory._pieces.keep((), plan=document)
        return directory

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """The run in the folder `path`, to read it. Raises UserError if there is none or it is damaged."""
        return cls._from_document(_plan_document(path), path, Lock(path))

    @classmethod
    def open_unfinished(cls, path: Path | None) -> RunDirectory:
        """The run to resume: that in `path`, else the newest under .fuseproof/runs that is not complete.

        Raises UserError if there is none, another process measures it, it is complete or damaged, or what it
        is made of has changed: the machine, the packages, the way of measuring, the source of a kernel.
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
        document = _plan_document(path)
        lock = Lock(path)
        lock.acquire()
        directory = cls._from_document(document, path, lock)
        if _is_complete(path):
            raise UserError(
                f"{path} is complete, nothing is left to do; start a new run with `fuseproof run`"
            )
        if directory.hash is None:
            raise UserError(
                f"{path} was started by an earlier version of fuseproof, without the hashes that show "
                "whether its pieces belong together; start a new run"
            )
        directory.refuse_another_machine()
        directory.refuse_changed_sources()
        directory._pieces.keep(directory._planned(), plan=document)
        return directory

    @classmethod
    def _from_document(cls, document: Mapping[str, Any], path: Path, lock: Lock) -> RunDirectory:
        file = path / "plan.json"
        try:
            described = document["environment"]
            msgspec.convert(described, _Environment)
            directory = cls(
                path=path,
                plan=Plan.from_json(document["plan"]),
                environment=described,
                started=msgspec.convert(document["datetime"], str),
                commit=msgspec.convert(document["commit_info"], dict[str, Any]),
                method=msgspec.convert(document.get("method", 1), int),
                sources=msgspec.convert(document.get("sources", {}), dict[str, dict[str, str]]),
                hash=document.get("sha256"),
                _pieces=Pieces(path, document.get("sha256")),
                _lock=lock,
            )
            environment.fingerprint(directory.fingerprint_fields)
        except UserError as error:
            raise UserError(f"{file}: {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise UserError(f"{file} is damaged ({what}); start a new run") from None
        return directory

    @property
    def refused(self) -> Mapping[str, str]:
        """Pieces in the folder that are not this run's, each with the reason; they are measured again."""
        return dict(self._pieces.refused)

    def refuse_another_machine(self, wanted: str = "resumed") -> None:
        """Raises UserError if a field of the fingerprint has changed since the run was started.

        wanted: what cannot be done then, for the message.
        """
        settings = self.plan.settings
        now = environment.fingerprint_fields(
            environment.describe(device=settings.device, threads=settings.threads), vars(settings)
        )
        now = json.loads(json.dumps(now))  # as it is after writing and reading
        changed = [key for key, value in self.fingerprint_fields.items() if now.get(key) != value]
        if changed:
            raise UserError(
                f"{self.path} cannot be {wanted}: {', '.join(changed)} changed since then; start a new run"
            )

    @property
    def fingerprint_fields(self) -> dict[str, Any]:
        """What must match before this run may be compared with another, by name."""
        fields = environment.fingerprint_fields(self.environment, vars(self.plan.settings))
        return {**fields, "method": self.method}

    def refuse_changed_sources(self) -> None:
        """Raises UserError if a file of an implementation is not as it was at the start. 1 ms for 40."""
        for of, recorded in self.sources.items():
            if (file := sources.changed(recorded)) is not None:
                whose = "Fuseproof" if of == "fuseproof" else of
                raise UserError(
                    f"{file} of {whose} was edited or deleted since {self.path} was started; a run holds one "
                    "version of a kernel: start a new run"
                )

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
        if not self._lock.held:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def captures(self, case: Case) -> Path:
        """The folder of a case's captures, one in it for each implementation."""
        return self.path / "captures" / self._number(case)

    # A check or a profile is one case of one framework; a cell is one case in one block. Saving raises
    # UserError if a source was edited meanwhile: nobody knows then which version was measured.

    def check(self, framework: str, case: Case) -> dict[str, Any] | None:
        return self._pieces.get(self._piece("check", case, framework=framework))

    def save_check(self, framework: str, case: Case, record: Mapping[str, Any]) -> None:
        self._save(self._piece("check", case, framework=framework), record)

    def profile(self, framework: str, case: Case) -> dict[str, Any] | None:
        return self._pieces.get(self._piece("profile", case, framework=framework))

    def save_profile(self, framework: str, case: Case, record: Mapping[str, Any]) -> None:
        self._save(self._piece("profile", case, framework=framework), record)

    def cell(self, block: int, case: Case) -> dict[str, Any] | None:
        return self._pieces.get(self._piece("cell", case, block=block))

    def save_cell(self, block: int, case: Case, record: Mapping[str, Any]) -> None:
        self._save(self._piece("cell", case, block=block), record)

    def first_result(self, case: Case) -> dict[str, Any] | None:
        return self._pieces.get(self._piece("first_result", case))

    def save_first_result(self, case: Case, record: Mapping[str, Any]) -> None:
        self._save(self._piece("first_result", case), record)

    def _save(self, piece: Piece, record: Mapping[str, Any]) -> None:
        self.refuse_changed_sources()
        self._pieces.save(piece, record)

    def _piece(self, kind: str, case: Case, **more: Any) -> Piece:
        return Piece(kind=kind, group=case.group, number=self.plan.cases.index(case), **more)

    def _number(self, case: Case) -> str:
        return f"{self.plan.cases.index(case):03d}"

    def _planned(self) -> Iterator[Piece]:
        """Every piece that the run may come to have."""
        for case in self.plan.cases:
            for framework in self.plan.frameworks:
                yield self._piece("check", case, framework=framework)
                yield self._piece("profile", case, framework=framework)
            for block in range(self.plan.settings.max_blocks):
                yield self._piece("cell", case, block=block)
        for case in self.plan.of_first_results:
            yield self._piece("first_result", case)

    def missing(self) -> list[str]:
        """The pieces, as file names, that the run still lacks to be complete.

        Beyond the least number of blocks, those that were begun have to be whole.
        """
        plan, settings = self.plan, self.plan.settings
        begun = [
            block
            for block in range(settings.max_blocks)
            if block < settings.blocks or any(self.cell(block, case) is not None for case in plan.cases)
        ]
        needed = [self._piece("cell", case, block=block) for block in begun for case in plan.cases]
        for kind in ("check", *(["profile"] if settings.profile else [])):
            needed += [
                self._piece(kind, case, framework=framework)
                for framework in plan.frameworks
                for case in plan.cases
                if plan.implementations_of(case, framework)
            ]
        needed += [self._piece("first_result", case) for case in plan.of_first_results]
        return [piece.name for piece in needed if self._pieces.get(piece) is None]

    def disturbed(self) -> list[str]:
        """What others did to the plan, the pieces and the lock since they were written; empty if nothing.

        Cheap enough to ask after every leg: one lstat of each file and a listing of four folders, 0.3 ms for
        100 pieces. Says nothing of a run that was opened to be read.
        """
        return self._pieces.disturbed() + (["lock was deleted"] if self._lock.lost() else [])

    def restore(self) -> None:
        """Undo what `disturbed` found, from memory. Reads every file: up to 5 ms for each of a large run.

        Raises UserError if another process has taken the folder meanwhile.
        """
        self._mended.extend(self.disturbed())
        with writing_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        if self._lock.lost():
            self._lock.acquire()
        self._pieces.restore()

    @property
    def mended(self) -> Sequence[str]:
        """What `restore` has undone since the run was started or resumed, in the words of `disturbed`."""
        return tuple(dict.fromkeys(self._mended))

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


def _holds_a_run(path: Path) -> UserError:
    return UserError(f"{path} holds a run already; finish it with --resume {path} or choose another folder")


def new_folder(suite: str) -> Path:
    """A folder that no other process has, named after the time and the suite."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path, number = DEFAULT_ROOT / f"{stamp}-{suite}", 1
    with writing_to(DEFAULT_ROOT):
        DEFAULT_ROOT.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                path = DEFAULT_ROOT / f"{stamp}-{suite}-{number}"
            else:
                return path


def _plan_document(path: Path) -> dict[str, Any]:
    """What plan.json holds. Raises UserError if it is not there, is damaged, or was changed since."""
    file = path / "plan.json"
    if not file.is_file():
        raise UserError(f"{path} is not a run directory: it holds no plan.json")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}); start a new run") from None
    if not isinstance(document, dict):
        raise UserError(f"{file} is damaged (not a JSON object); start a new run")
    schema = document.get("schema", 1)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise UserError(f"{file} has schema {str(schema)[:20]}, of a newer version of fuseproof; update it")
    if schema == SCHEMA:
        content = {key: value for key, value in document.items() if key != "sha256"}
        if digest(content) != document.get("sha256"):
            raise UserError(f"{file} is not as it was written, its hash differs; start a new run")
    elif "sha256" in document:
        raise UserError(f"{file} is damaged (a hash without a schema); start a new run")
    return document


def _is_complete(path: Path) -> bool:
    run = (read(path / "run.json") or {}).get("fuseproof")
    return isinstance(run, dict) and bool(run.get("complete"))
