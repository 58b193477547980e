"""A state of the user's repository, and the Python that measures it.

Base is checked out beside head, in a git worktree. Both are imported from their folders, which come first on
the path; what is imported from elsewhere would measure the same code twice, so it is looked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseproof.errors import UserError
from fuseproof.runs.lock import Lock

_ROOT = Path(".fuseproof") / "against"
# What says which packages a checkout needs. Of pyproject.toml only these tables do.
_DEPENDENCIES = (
    "setup.py",
    "setup.cfg",
    "requirements*.txt",
    "constraints*.txt",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
)
_TABLES = ("build-system", "dependency-groups")
_IN_PROJECT = ("dependencies", "optional-dependencies", "requires-python")
# Folders in which a project's packages lie.
_SOURCES = ("src", "lib", "python", "")


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """label: `base` or `head`. commit: of git, with `+` where files have changed since.

    place: where in the folder the user stands, and measures.
    other: of base the folder of head, whose code must not be measured for base's.
    """

    label: str
    commit: str
    folder: Path
    python: Path
    place: Path = Path()
    other: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.label} {self.commit[:12]}{'+' if self.commit.endswith('+') else ''}"

    @property
    def working_folder(self) -> Path:
        return self.folder / self.place

    @property
    def sources(self) -> tuple[Path, ...]:
        """Folders that hold its packages, from where the user stands up to the whole repository."""
        above = [self.folder / each for each in (self.place, *self.place.parents)]
        found = (
            folder / source
            for folder in above
            if not (folder / "__init__.py").is_file()
            for source in _SOURCES
        )
        return tuple(dict.fromkeys(folder for folder in found if folder.is_dir()))

    @property
    def environment(self) -> dict[str, str]:
        """Its packages first on the path, and no compiled code of another checkout."""
        given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        places = [*self.sources, *(self._own(Path(each)) for each in given)]
        # A worker of pytest-xdist may have started us; pytest-benchmark measures nothing in one.
        inherited = {n: value for n, value in os.environ.items() if not n.startswith("PYTEST_XDIST_")}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join(map(str, places)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def _own(self, path: Path) -> Path:
        """A place on the path; one in the other checkout as it is called here."""
        if self.other is None or not is_code_of(self.other, path):
            return path
        return self.folder / path.resolve().relative_to(self.other.resolve())


@contextmanager
def both(revision: str, *, python: Path | None = None) -> Iterator[tuple[Checkout, Checkout]]:
    """Base, the revision in a worktree that is removed afterwards, and head, the working directory as it is.

    python: base's; by default head's own where both need the same packages, else one that is made for base.
    Raises UserError outside a repository, for an unknown revision, where other code would run, and where
    another process measures two commits.
    """
    root = Path(_git("rev-parse", "--show-toplevel"))
    place = Path(_git("rev-parse", "--show-prefix"))
    commit = _git(
        *("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"),
        what=f"no commit {revision!r} here; a clone of one commit, as CI makes it, has to fetch it first",
    )
    if python is not None:
        python = _found(python)
    dirty = "+" if _git("status", "--porcelain", "--untracked-files=no") else ""
    head = Checkout(
        label="head",
        commit=_git("rev-parse", "HEAD") + dirty,
        folder=root,
        python=Path(sys.executable),
        place=place,
    )
    folder = (root / _ROOT / commit[:12]).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    (folder.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    lock = Lock(folder.parent)  # two gates at once would slow each other down, and remove each other's base
    lock.acquire()
    try:
        _remove(root, folder)
        _git("worktree", "add", "--detach", str(folder), commit)
        if not (folder / place).is_dir():
            raise UserError(f"{place} is not there in {revision}; start where both have what is measured")
        project = _project(folder, place)
        same = dependencies(project) == dependencies(_project(root, place))
        own = python or (head.python if same else _made_for(project, root))
        base = Checkout(label="base", commit=commit, folder=folder, python=own, place=place, other=root)
        for each in (base, head):
            _refuse_code_from_elsewhere(each)
        yield base, head
    finally:
        _remove(root, folder)
        lock.release()


def _project(folder: Path, place: Path) -> Path:
    """The nearest folder, from `place` up, that is a project; the whole repository if there is none."""
    for each in (place, *place.parents):
        if any((folder / each / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg")):
            return folder / each
    return folder


def dependencies(folder: Path) -> str:
    """A hash of what says which packages the code in a folder needs."""
    found: dict[str, Any] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in _DEPENDENCIES
        for path in sorted(folder.glob(pattern))
    }
    project = folder / "pyproject.toml"
    if project.is_file():
        try:
            document = tomllib.loads(project.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{project} is not TOML: {error}") from None
        found |= {name: document.get(name) for name in _TABLES}
        found |= {name: document.get("project", {}).get(name) for name in _IN_PROJECT}
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _made_for(folder: Path, root: Path) -> Path:
    """An environment with what base needs, kept for the next time; made by uv where there is one."""
    environment = (root / _ROOT / f"environment-{dependencies(folder)}").absolute()
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = environment / ".installed"
    if done.is_file():
        return python
    uv = shutil.which("uv")
    shutil.rmtree(environment, ignore_errors=True)
    needed = [str(folder), "pytest", "pytest-benchmark"]
    if uv:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(environment)])
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *needed])
    else:
        _run([sys.executable, "-m", "venv", str(environment)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *needed])
    done.touch()
    return python


def _refuse_code_from_elsewhere(checkout: Checkout) -> None:
    """Raise UserError if Python would import the project's packages from another place than the checkout."""
    names = sorted({path.parent.name for place in checkout.sources for path in place.glob("*/__init__.py")})
    code = (
        "import importlib.util, json, sys\n"
        "found = {name: importlib.util.find_spec(name) for name in sys.argv[1:]}\n"
        "found = {name: spec and spec.origin for name, spec in found.items()}\n"
        "print(json.dumps([found, sys.path, [sys.prefix, sys.base_prefix]]))"
    )
    try:
        done = subprocess.run(
            [checkout.python, "-c", code, *names],
            cwd=checkout.working_folder,
            env=checkout.environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise UserError(f"{checkout.python} does not run: {error.strerror}; name another Python") from None
    if done.returncode:
        raise UserError(f"{checkout.python} does not run: {(done.stderr.splitlines() or ['no message'])[-1]}")
    origins: Mapping[str, str | None]
    origins, path, prefixes = json.loads(done.stdout.splitlines()[-1])
    if checkout.other is not None:
        known = {
            (checkout.other / place.relative_to(checkout.folder)).resolve() for place in checkout.sources
        }
        for each in map(Path, filter(os.path.isabs, path)):  # others are those of finders
            if each.resolve() not in known and is_code_of(checkout.other, each, prefixes):
                raise UserError(
                    f"{each} of head is on the path of base, which would measure head's code; "
                    "give base a Python of its own with --base-python"
                )
    for name, origin in origins.items():
        if origin is not None and not Path(origin).resolve().is_relative_to(checkout.folder.resolve()):
            raise UserError(
                f"{name} of {checkout.label} would be imported from {origin}, not from {checkout.folder}; "
                "install it editable, or give base a Python of its own with --base-python"
            )


def is_code_of(folder: Path, path: Path, environments: Sequence[str] = ()) -> bool:
    """Whether a path is in a checkout, and neither in an environment that lies there nor in what we keep."""
    folder, path = folder.resolve(), path.resolve()
    if not path.is_relative_to(folder):
        return False
    apart = [Path(each).resolve() for each in environments]
    return not {_ROOT.parts[0], "site-packages"} & {*path.relative_to(folder).parts} and not any(
        folder in each.parents and path.is_relative_to(each) for each in apart
    )


def _found(python: Path) -> Path:
    """Its absolute path, as base is measured in another folder. Raises UserError if there is none."""
    found = python if python.is_file() else shutil.which(python)
    if found is None:
        raise UserError(f"--base-python {python}: no such program")
    return Path(found).absolute()


def _remove(root: Path, folder: Path) -> None:
    """Also one that git locked, as it was stopped while making it, or does not know of any more."""
    for words in (["remove", "--force", "--force", str(folder)], ["prune"]):
        subprocess.run(["git", "worktree", *words], cwd=root, capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _git(*arguments: str, what: str = "") -> str:
    """What git prints. Raises UserError with `what`, or git's own line, if it fails."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        raise UserError("git is not installed, and --against compares two of its commits") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["git failed"])[-1]
        raise UserError(what or f"git {arguments[0]}: {said}")
    return done.stdout.strip()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"base needs other packages than head, and an environment for it could not be made ({said}); "
            "make one, and name its Python with --base-python"
        )
