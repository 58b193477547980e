"""Functions of a Python session as implementations: whose framework they are of, and how they travel."""

from __future__ import annotations

import inspect
import pickle
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from fuseproof.errors import UserError
from fuseproof.implementations import FRAMEWORKS, Implementation, framework_of
from fuseproof.implementations.loading import PICKLE
from fuseproof.workloads.tensor import MODULE_PASSES

_NAME = re.compile(r"[A-Za-z_][\w.+-]{0,99}", re.ASCII)
# Where the classes of modules are, by their names.
_MODULES: Mapping[str, str] = {
    "torch.nn": "Module",
    "equinox": "Module",
    "flax.nnx": "Module",
    "keras": "Layer",
}
_FILTER_JIT = "equinox._jit"  # where the class is of what equinox.filter_jit makes


@dataclass(frozen=True)
class Variant:
    """A function, or a module, with what cannot be seen in it.

    framework: `torch`, `jax` or `tensorflow`, whose tensors it takes.
    compiled:  how Fuseproof compiles it, as `Implementation.compiled`; None to call it as it is.
    options:   further fields of `Implementation`, such as `consumes` or `layout`.
    """

    function: Any
    framework: str = ""
    compiled: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def implementation(
    name: str,
    given: Callable[..., Any] | Variant,
    *,
    workload: str,
    folder: Path,
    framework: str,
    as_module: bool = False,
) -> Implementation:
    """The implementation that `given` is, after its function was written into `folder`.

    framework: of the inputs; empty if they are of none. as_module: in the passes of modules, not a function.
    Raises UserError for a function that cannot travel, or whose framework nobody can tell.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name of an implementation; use letters, digits and . _ + -")
    variant = given if isinstance(given, Variant) else Variant(given)
    held: Any = variant.function
    pair = is_pair(held)
    if pair and not as_module:
        raise UserError(
            f"{name} is a pair (parameters, apply), which is a module: give modules only, in the passes "
            f"{', '.join(MODULE_PASSES)}"
        )
    if not callable(held) and not pair:
        raise UserError(f"{name} is {type(held).__name__}, not a function")
    function, compiled = _unwrapped(name, variant)
    if as_module and (jitted := _jitted_by_equinox(function)) is not None:
        function, compiled = jitted, "jit"
    own = (
        variant.framework
        or framework_of.function(variant.function)
        or framework_of.function(function)
        or framework
    )
    if pair and not variant.framework:
        own = "jax"
    if own not in FRAMEWORKS:
        raise UserError(
            f"nobody can see which framework {name} is of; write fuseproof.Variant(function, framework=…) "
            f"with one of {', '.join(FRAMEWORKS)}"
        )
    file = folder / f"{name}{PICKLE}"
    write(file, {"function": function}, of=name, with_=held[1:] if pair else ())
    return Implementation(
        workload,
        name,
        framework=own,
        target=f"{file}:function",
        compiled=compiled,
        outside=True,
        **variant.options,
    )


def write(file: Path, named: Mapping[str, Any], *, of: str, with_: Iterable[Any] = ()) -> None:
    """Write objects by value where they are of this session, or of a module that nobody can import elsewhere.

    What they import is found where this session found it. with_: functions that are parts of the objects.
    Raises UserError if they cannot travel; `of` names them.
    """
    import cloudpickle  # costs 20 ms, and only this needs it

    from fuseproof.api import pickling

    modules = map(_own_module, (*named.values(), *with_))
    by_value = [module for module in dict.fromkeys(modules) if module is not None]
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        content = pickling.dumps(named)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{of} cannot travel to a fresh process ({reason}); what it uses must be picklable: make such an "
            "object inside the function, or name the function as file.py:function in a workload file"
        ) from None
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(_own_folders()) + content)


def is_module(given: Any) -> bool:
    """Whether it is a module of PyTorch, Equinox, Flax NNX or Keras, compiled or not, or a pair of JAX's."""
    function = given.function if isinstance(given, Variant) else given
    function = getattr(function, "_orig_mod", function)
    function = getattr(function, "python_function", function)  # of tf.function
    if type(function).__module__ == _FILTER_JIT:
        function = _jitted_by_equinox(function)
    return is_pair(function) or any(
        kind.__name__ == name and f"{kind.__module__}.".startswith(f"{package}.")
        for kind in type(function).__mro__
        for package, name in _MODULES.items()
    )


def is_pair(given: Any) -> bool:
    """Whether it is a module of JAX without a library: parameters, and what takes them before the inputs."""
    return isinstance(given, tuple) and len(given) == 2 and callable(given[1])


def _jitted_by_equinox(function: Any) -> Any:
    """The module in what equinox.filter_jit made, which is a module itself; None if there is none."""
    if type(function).__module__ != _FILTER_JIT:
        return None
    wrapped = getattr(function, "__wrapped__", None)
    return wrapped if is_module(wrapped) else None


def _own_module(value: Any) -> ModuleType | None:
    """The module of a function, if a fresh process might not find it or find another: a test, a script."""
    while hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    name = getattr(value, "__module__", None) or type(value).__module__
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if module is None or name == "__main__" or file is None:
        return None  # cloudpickle takes these by value anyway
    return module if _is_own(name, Path(file)) else None


def _is_own(name: str, file: Path) -> bool:
    """Whether a module is neither installed, nor of the standard library, nor of Fuseproof."""
    installed = any(part in ("site-packages", "dist-packages") for part in file.parts)
    standard = file.is_relative_to(Path(inspect.__file__).parent)
    return not (installed or standard or name.partition(".")[0] == "fuseproof")


def _own_folders() -> dict[str, str]:
    """Where this session found its own modules and packages: pytest, a notebook and scripts add folders."""
    found = {}
    for name, module in list(sys.modules.items()):
        spec = None if "." in name or name == "__main__" else getattr(module, "__spec__", None)
        if not isinstance(spec, ModuleSpec):
            continue
        packages = spec.submodule_search_locations
        files = [spec.origin] if packages is None and spec.has_location else packages
        place = next(iter(files or ()), None)
        if place is not None and _is_own(name, Path(place)):
            found[name] = str(Path(place).absolute().parent)
    return found


def _unwrapped(name: str, variant: Variant) -> tuple[Callable[..., Any], str | None]:
    """The function and its compile mode: what torch.compile and tf.function made is made again there."""
    function = variant.function
    if hasattr(function, "python_function") and hasattr(function, "_jit_compile"):  # of tf.function
        return function.python_function, "xla" if function._jit_compile else "function"
    original = getattr(function, "_torchdynamo_orig_callable", None)
    if original is None:
        return function, variant.compiled
    context = getattr(function, "dynamo_ctx", None) or _context_of(function)
    config = getattr(context, "compiler_config", None)
    dynamic = getattr(context, "_dynamic", None)
    if config is None or getattr(context, "fullgraph", False) or dynamic is False:
        raise UserError(
            f"{name} was compiled with options of torch.compile that do not travel; write "
            f"fuseproof.Variant(function, compiled=…) with its mode"
        )
    tuned, graphs = bool(config.get("max_autotune")), bool(config.get("triton.cudagraphs"))
    mode = {
        (False, False): "default",
        (False, True): "reduce-overhead",
        (True, True): "max-autotune",
        (True, False): "max-autotune-no-cudagraphs",
    }[tuned, graphs]
    return getattr(function, "_orig_mod", original), mode + ("+dynamic" if dynamic else "")


def _context_of(function: Any) -> Any:
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return next((each for each in cells if hasattr(each, "compiler_config")), None)
