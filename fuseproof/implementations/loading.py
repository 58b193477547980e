"""The functions and tables that `module:NAME` and `path/to/file.py:NAME` name, found and imported."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from fuseproof.errors import UserError

# The ending of a file of functions that travel by value.
PICKLE = ".pickle"

# Modules of `fuseproof` that targets in old run directories and captures name, and where their functions are.
_MOVED: Mapping[str, str] = {
    **{
        f"fusion.{name}_ops": f"fusion.ops.{name}"
        for name in ("torch", "jax", "tensorflow", "keras", "triton", "helion")
    },
    "fusion.peers": "fusion.ops.peers",
    **{
        f"kernels.triton.{name}": "kernels.triton"
        for name in ("attention", "matmul", "layer_norm", "rms_norm")
    },
}


def resolve(reference: str) -> Any:
    """The attribute that `module:attribute` or `path/to/file.py:attribute` names.

    A module is first looked for in the current folder, and only that module: a file there that is called like
    a library hides the library from nobody else. What it imports may lie beside it. A file that ends in
    PICKLE holds the folders of what they import and a dictionary of functions that travel by value.
    Raises UserError, also for a module that wants to end the process.
    """
    place, _, attribute = reference.rpartition(":")
    if not place or not attribute:
        raise UserError(f"{reference!r} is not module:attribute or file.py:attribute")
    with _guarded(place, attribute, reference):
        return getattr(_module(place), attribute)


def load(place: str) -> ModuleType:
    """The module that `module` or `path/to/file.py` names. Raises UserError."""
    with _guarded(place, "", place):
        return _module(place)


def _module(place: str) -> ModuleType:
    if place.endswith(PICKLE):
        return _unpickled(Path(place))
    return _load_file(Path(place)) if place.endswith(".py") else _import(place)


@contextlib.contextmanager
def _guarded(place: str, attribute: str, reference: str) -> Iterator[None]:
    """Whatever a user's module does when it is imported becomes a UserError."""
    process = os.getpid()
    try:
        # What a module prints is not what the command prints, which another program may read.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        raise
    except UserError as error:  # perhaps of a class that the module defines
        raise UserError(str(error) if place in str(error) else f"{place}: {error}") from None
    except BaseException as error:
        raise UserError(_why(error, place, attribute, reference)) from error
    finally:
        if os.getpid() != process:
            os._exit(0)  # the module forked: the run goes on in the parent only


def _why(error: BaseException, place: str, attribute: str, reference: str) -> str:
    # Imported here, because at the top they would slow down `--help`.
    from fuseproof.child_process import described, one_line

    if isinstance(error, AttributeError) and error.name == attribute and isinstance(error.obj, ModuleType):
        return f"{place!r} has no attribute {attribute!r}"
    if isinstance(error, ImportError):
        return one_line(f"cannot import {place!r} of {reference!r}: {error}")
    return one_line(f"{place!r} of {reference!r} failed on import: {described(error)}")


def resolve_function(reference: str) -> Callable[..., Any]:
    """As `resolve`, for a target. Raises UserError if it is neither callable nor a pair (tree, function)."""
    function = resolve(reference)
    pair = isinstance(function, tuple) and len(function) == 2 and callable(function[1])
    if not callable(function) and not pair:
        raise UserError(f"{reference} is not callable")
    return function  # type: ignore[no-any-return]


def current_module(name: str) -> str:
    """The module that has the functions of the module `name` of any version."""
    package, _, module = name.partition(".")
    return f"{package}.{_MOVED.get(module, module)}" if package == "fuseproof" and module else name


def _import(name: str) -> ModuleType:
    name = current_module(name)
    top, _, rest = name.partition(".")
    here = str(Path.cwd())
    own = None if top == "fuseproof" else PathFinder.find_spec(top, [here])
    _append_to_path(here)
    if own is None or own.origin is None or own.origin == _origin(top):
        return importlib.import_module(name)
    # A library has the same name, and whoever imports that must get the library. Only a package takes its
    # place, because it imports itself by its name: it may be the library's own sources.
    is_package = own.submodule_search_locations is not None
    loaded = top if is_package and top not in sys.modules else _private_name(own.origin)
    module = _load(loaded, own.origin)
    return importlib.import_module(f"{loaded}.{rest}") if rest else module


def _origin(name: str) -> str | None:
    """The file of the module that `import name` gives, None if there is none."""
    try:
        found = importlib.util.find_spec(name)
    except ValueError:  # a module that was put together by hand
        return None
    return None if found is None else found.origin


def _unpickled(path: Path) -> ModuleType:
    """A module made of the functions in a file that `fuseproof.compare` wrote."""
    name = _private_name(path)
    if name not in sys.modules:
        if not path.is_file():
            raise UserError(f"no such file: {path}")
        import cloudpickle  # only its own files need it

        module = ModuleType(name)
        with path.open("rb") as file:
            sys.meta_path.insert(0, _Folders(cloudpickle.load(file)))
            vars(module).update(cloudpickle.load(file))
        sys.modules[name] = module
    return sys.modules[name]


class _Folders(MetaPathFinder):
    """Finds modules in the one folder that each was found in elsewhere, and hides no other by that."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = folders

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        folder = self._folders.get(name)
        return None if folder is None else PathFinder.find_spec(name, [folder], target)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    _append_to_path(str(path.absolute().parent))
    return _load(_private_name(path), path)


def _private_name(path: str | Path) -> str:
    """A name that no other module has, the same in every process: compilers' caches may hold it."""
    import hashlib  # at the top it would slow down `--help`

    path = Path(path).resolve()
    stem = path.parent.name if path.name == "__init__.py" else path.stem
    return f"fuseproof_user_{stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"


def _load(name: str, path: str | Path) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a Python file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)  # else the next reference would find the half that was executed
        raise
    return module


def _append_to_path(folder: str) -> None:
    """At the end: what lies there is found by its siblings and hides no library."""
    if folder not in sys.path:
        sys.path.append(folder)
