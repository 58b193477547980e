"""The files an implementation is made of, found without running them, and their hashes.

A run must never hold two versions of a kernel, so it records these hashes and compares them. Followed are
imports of modules that lie beside the target: in its package or folder, in the working directory, in any
place but the standard library and installed packages, whose versions a run records.
"""

from __future__ import annotations

import ast
import hashlib
import os
import site
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

from fuseproof.implementations.implementation import Implementation
from fuseproof.implementations.loading import PICKLE, current_module

# A file with one of these endings that the code names in a string, such as "kernel.cu", is a part of it.
_CODE = frozenset(
    {".py", ".c", ".cc", ".cpp", ".h", ".hpp", ".cu", ".cuh", ".so", ".ptx", ".cubin", ".hsaco", ".mlir"}
)
# Of Fuseproof's own code that which computes, and says what is to be computed.
_OWN_FOLDERS = (["kernels"], ["fusion"], ["workloads"])
_IMPORTING = ("import_module", "__import__", "find_spec")


def hashes(implementation: Implementation) -> dict[str, str]:
    """SHA-256 of each of its files, by absolute path; empty if its target is not there."""
    place, _, _ = implementation.target.rpartition(":")
    search = _Search(implementation)
    if place.endswith((".py", PICKLE)):
        search.add_file(Path(place), "")
    else:
        search.add_module(current_module(place))
    if implementation.requires:
        search.add_module(implementation.requires)
    found = {str(path): sha256(path) for path in search.files}
    return {path: value for path, value in sorted(found.items()) if value is not None}


def sha256(path: str | Path) -> str | None:
    """Of the content of a file; None if it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None


def digest(recorded: Mapping[str, str]) -> str:
    """One short hash of an implementation's files, which does not tell where they are."""
    return hashlib.sha256(" ".join(sorted(recorded.values())).encode(errors="replace")).hexdigest()[:16]


def changed(recorded: Mapping[str, str]) -> str | None:
    """The first file that is not as it was recorded, None if all are. 20 µs for a small file."""
    return next((path for path, before in recorded.items() if sha256(path) != before), None)


class _Search:
    """Follows imports from file to file; `files` are those found."""

    def __init__(self, implementation: Implementation) -> None:
        place = implementation.target.rpartition(":")[0]
        folder = [str(Path(place).absolute().parent)] if place.endswith((".py", PICKLE)) else []
        self._places = [*folder, str(Path.cwd())]
        # Installed packages are not followed, except the one that the implementation lies in or is about.
        self._own = {"fuseproof", place.partition(".")[0], implementation.requires}
        self._seen: set[str] = set()
        self.files: dict[Path, None] = {}

    def add_module(self, name: str) -> None:
        """The module, the packages it lies in, and what they import."""
        top, *below = name.split(".")
        if name in self._seen or (top == "fuseproof" and below[:1] not in _OWN_FOLDERS):
            return
        self._seen.add(name)
        place = _find_top(top, tuple(self._places))
        if place is None or (top not in self._own and place.installed):
            return
        module = top
        while True:
            if place.file is not None:
                self.add_file(place.file, module if place.folders else module.rpartition(".")[0])
            if not below or (place := _look_in(place.folders, below[0])) is None:
                return
            module = f"{module}.{below.pop(0)}"

    def add_file(self, path: Path, package: str) -> None:
        """A file whose relative imports start from `package`, and what it imports."""
        path = path.resolve()
        if path in self.files or not path.is_file():
            return
        self.files[path] = None
        if path.suffix != ".py":
            return
        modules, files = _named_in(path, path.stat().st_mtime_ns, package)
        for module in modules:
            self.add_module(module)
        for file in files:
            self.add_file(path.parent / file, package)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a module is. file: its code, None for a namespace package. folders: where its modules are."""

    file: Path | None
    folders: tuple[Path, ...] = ()

    @property
    def installed(self) -> bool:
        """Whether it belongs to Python or to an installed package."""
        where = self.folders if self.file is None else (self.file,)
        return any(os.path.realpath(each).startswith(_installed()) for each in where)


@cache
def _find_top(name: str, places: tuple[str, ...]) -> _Place | None:
    """Where a top-level module is; finding it runs no code of it."""
    if (found := _look_in([Path(place) for place in places], name)) is not None and found.file is not None:
        return found
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    file = Path(spec.origin) if spec.has_location and spec.origin is not None else None
    folders = tuple(Path(each) for each in spec.submodule_search_locations or ())
    return _Place(file=file, folders=folders) if file or folders else None


def _look_in(folders: Sequence[Path], name: str) -> _Place | None:
    """Where the module `name` in one of these folders is, in the order in which Python looks."""
    for folder in folders:
        inside = folder / name
        if (inside / "__init__.py").is_file():
            return _Place(file=inside / "__init__.py", folders=(inside,))
        if (code := folder / f"{name}.py").is_file():
            return _Place(file=code)
        for suffix in EXTENSION_SUFFIXES:
            if (binary := folder / f"{name}{suffix}").is_file():
                return _Place(file=binary)
    namespace = tuple(folder / name for folder in folders if (folder / name).is_dir())
    return _Place(file=None, folders=namespace) if namespace else None


@cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(os.path.realpath(folder) + os.sep for folder in folders)


@cache
def _named_in(path: Path, time_ns: int, package: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Modules that the file may import and files that it names; time_ns is its last change, for the cache."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return (), ()  # it will fail when it is called, and its hash is known
    return tuple(dict.fromkeys(_imported(tree, package))), tuple(dict.fromkeys(_named_files(tree)))


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Names that may be modules: of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            if base:
                yield base
                yield from (f"{base}.{each.name}" for each in node.names if each.name != "*")
        elif isinstance(node, ast.Call) and _called(node) in _IMPORTING and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value:
                yield name.value


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    above: Sequence[str] = package.split(".")
    above = above[: len(above) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])]) if package and above else ""


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _named_files(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 256:
            text = node.value
            if "\0" not in text and Path(text).suffix in _CODE:
                yield text
