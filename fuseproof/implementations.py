"""The table of implementations, and how a user adds rows to it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from fuseproof.errors import UserError

# Framework by the name of its module in fuseproof/frameworks; each worker process imports one of them.
FRAMEWORKS: Mapping[str, str] = {"torch": "torch.eager", "jax": "jax.eager", "tensorflow": "tf.eager"}

_HALF = ("float16", "bfloat16")
_IEEE = ("float32", *_HALF)
_DTYPES = (*_IEEE, "tf32")
_PRODUCTS = (*_DTYPES, "float8_e4m3")

# How to install what a row `requires`, by the name it is imported by.
_INSTALL: Mapping[str, str] = {
    "liger_kernel": "pip install 'fuseproof[peers]'",
    "quack": "pip install 'fuseproof[peers]'",
    "helion": "pip install 'fuseproof[peers]'",
    "xformers": "pip install 'fuseproof[peers]'",
    "flash_attn": "pip install flash-attn --no-build-isolation",
}

# Modes of torch.compile that use CUDA graphs, and what each of them is without.
CUDA_GRAPHS: Mapping[str, str] = {
    "reduce-overhead": "default",
    "max-autotune": "max-autotune-no-cudagraphs",
}

# Compilers' modes by framework, as in `Implementation.compiled`; not all versions of PyTorch have `lite`.
_MODES: Mapping[str, tuple[str, ...]] = {
    "torch": ("default", "lite", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "kernel"),
    "jax": ("jit",),
    "tensorflow": ("function", "xla"),
}
# Operators in which there is no product to tune.
_WITHOUT_PRODUCT = ("layer_norm", "rms_norm")

# What a row's fields may hold.
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "passes": ("forward", "forward_backward"),  # operators.PASSES, whose import would cost every `--help`
    "dtypes": _PRODUCTS,  # operators.DTYPES, likewise
    "devices": ("cpu", "cuda", "tpu"),
    "interpreted": ("cpu",),
    "layout": ("bhsd", "bshd"),
}


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operator.

    operator:  name of the operator.
    name:      `framework.variant`, unique for the operator.
    framework: `torch`, `jax` or `tensorflow`, whose tensors the target takes.
    target:    `module:function` or `path/to/file.py:function`; called with the operator's inputs and options
               as keyword arguments, returns the output.
    compiled:  None to call the target as it is, else the compiler's mode: for torch a mode of
               torch.compile, with `+dynamic` after it for one program for all shapes, or `kernel` for a
               target that compiles itself at its first call; for jax `jit`; for tensorflow `function` or
               `xla`.
    baseline:  the implementation its speedup and its error limit refer to; the framework's library call
               unless given.
    passes:    passes the target can compute.
    dtypes:    dtypes of cases the target can compute.
    devices:   devices it can be timed on.
    interpreted: devices where it runs in an interpreter: right, but of no use to time.
    consumes:  inputs that a call may use up: written over in place, or donated to XLA where `compiled` is
               `jit`. Every call is given new copies of them, made before the clock starts.
    requires:  a package beside the framework that the target imports.
    layout:    order of the axes of 4-dimensional tensors the target takes and returns, `bhsd` (batch, heads,
               length, head dim) or `bshd`; conversion is never timed.
    """

    operator: str
    name: str
    _: KW_ONLY
    framework: str
    target: str
    compiled: str | None = None
    baseline: str = ""
    passes: tuple[str, ...] = ("forward", "forward_backward")
    dtypes: tuple[str, ...] = _DTYPES
    devices: tuple[str, ...] = ("cpu", "cuda")
    interpreted: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()
    requires: str = ""
    layout: str = "bhsd"

    def __post_init__(self) -> None:
        for field in ("operator", "name", "framework", "target", "baseline", "requires", "layout"):
            self._refuse_other_than_text(field, getattr(self, field))
        if self.framework not in FRAMEWORKS:
            raise UserError(
                f"{self.operator} {self.name}: unknown framework {self.framework!r}; "
                f"there are {', '.join(FRAMEWORKS)}"
            )
        if ":" not in self.target:
            raise UserError(f"{self.operator} {self.name}: target {self.target!r} is not module:function")
        if not self.baseline:
            object.__setattr__(self, "baseline", FRAMEWORKS[self.framework])
        self._refuse_unknown_mode()
        for field in ("consumes", "passes", "dtypes", "devices", "interpreted"):
            values = _as_tuple(getattr(self, field))  # a JSON list becomes the tuple it was
            for value in values:
                self._refuse_other_than_text(field, value)
            object.__setattr__(self, field, values)
        for field, known in _KNOWN.items():
            for value in _as_tuple(getattr(self, field)):
                if value not in known:
                    raise UserError(
                        f"{self.operator} {self.name}: unknown {field} {value!r}; "
                        f"there are {', '.join(known)}"
                    )

    def _refuse_other_than_text(self, field: str, value: object) -> None:
        if not isinstance(value, str):
            raise UserError(f"{self.operator} {self.name}: {field} holds {value!r}, which is no text")

    def _refuse_unknown_mode(self) -> None:
        if self.compiled is None:
            return
        self._refuse_other_than_text("compiled", self.compiled)
        known = _MODES[self.framework]
        mode, plus, shapes = self.compiled.partition("+")
        dynamic = self.framework == "torch" and mode != "kernel" and shapes == "dynamic"
        if mode not in known or (plus and not dynamic):
            more = ", +dynamic after those of torch.compile" if self.framework == "torch" else ""
            raise UserError(
                f"{self.operator} {self.name}: {self.framework} has no compile mode {self.compiled!r}; "
                f"there are {', '.join(known)}{more}, and None"
            )

    def reason_not_on(self, device: str) -> str | None:
        """Why it cannot be timed on `device`; None if it can."""
        mode = (self.compiled or "").partition("+")[0]
        if device != "cuda" and self.framework == "torch" and mode in CUDA_GRAPHS:
            return f"CUDA graphs need cuda; without them {mode!r} is {CUDA_GRAPHS[mode]!r}"
        if device != "cuda" and mode == "max-autotune-no-cudagraphs" and self.operator in _WITHOUT_PRODUCT:
            return f"{self.operator} has no product to tune; on {device} {mode!r} is 'default'"
        if device in self.devices:
            return self._reason_not_installed()
        if device in self.interpreted:
            return f"interpreted on the {device.upper()}: correctness only, never timed"
        return f"needs {' or '.join(self.devices)}; this run is on {device}"

    def _reason_not_installed(self) -> str | None:
        if not self.requires or importlib.util.find_spec(self.requires) is not None:
            return None
        return f"{self.requires} is not installed; {_INSTALL.get(self.requires, 'install it first')}"


def _as_tuple(given: Any) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)


# Modes of torch.compile by what they add to `torch.compile` in a row's name.
_TORCH_MODES: Mapping[str, str] = {
    "": "default",
    "-dynamic": "default+dynamic",
    "-reduce-overhead": "reduce-overhead",
    "-max-autotune": "max-autotune",
    "-max-autotune-no-cudagraphs": "max-autotune-no-cudagraphs",
}


@dataclass(frozen=True, kw_only=True)
class _Variants:
    """What differs between operators in the rows we give each of them.

    library_layout: the order of axes that jax.nn's and Keras's own call wants.
    donated:        the input whose memory a result can take.
    overwritten:    the inputs that the code in place writes over.
    composed_apart: False where JAX and TensorFlow have no library call, so the composed code is the usual.
    """

    operator: str
    library_layout: str = "bhsd"
    donated: str = "x"
    overwritten: tuple[str, ...] = ()
    composed_apart: bool = True
    kernels: tuple[str, ...] = ("pallas", "triton")
    triton: str = ""  # the target of the Triton kernel where it is not the kernel's own function
    triton_dtypes: tuple[str, ...] = _IEEE
    # Of the library calls: a compiler adds nothing to PyTorch's one call for 8-bit products, and TensorFlow
    # has no such product.
    library_dtypes: tuple[str, ...] = _DTYPES


_VARIANTS = (
    _Variants(operator="attention", library_layout="bshd", donated="q"),
    _Variants(
        operator="matmul",
        donated="a",
        triton="fuseproof.fusion.triton_ops:matmul",
        triton_dtypes=_PRODUCTS,
        library_dtypes=_PRODUCTS,
    ),
    _Variants(operator="layer_norm", overwritten=("x",)),
    _Variants(operator="rms_norm", overwritten=("x",), composed_apart=False, kernels=("triton",)),
)


_gpu = partial(Implementation, framework="torch", devices=("cuda",))
_peer = partial(_gpu, compiled="kernel", dtypes=_IEEE)
_PEERS_MODULE = "fuseproof.fusion.peers"

# PyTorch's own attention by backend, and what a user would take from a package instead of our kernels.
# fmt: off
PEERS = (
    _gpu("attention", "torch.sdpa-cudnn", target=f"{_PEERS_MODULE}:attention_cudnn", dtypes=_HALF),
    _gpu("attention", "torch.sdpa-flash", target=f"{_PEERS_MODULE}:attention_flash", dtypes=_HALF),
    _gpu("attention", "torch.sdpa-efficient", target=f"{_PEERS_MODULE}:attention_efficient"),
    _peer("attention", "flash-attn", target=f"{_PEERS_MODULE}:attention_flash_attn", layout="bshd",
          dtypes=_HALF, requires="flash_attn"),
    _peer("attention", "xformers", target=f"{_PEERS_MODULE}:attention_xformers", layout="bshd",
          requires="xformers"),
    _peer("layer_norm", "liger", target=f"{_PEERS_MODULE}:layer_norm_liger", requires="liger_kernel"),
    _peer("layer_norm", "quack", target=f"{_PEERS_MODULE}:layer_norm_quack", requires="quack",
          passes=("forward",), dtypes=("float32",)),  # its weights are float32
    _peer("layer_norm", "helion", target="fuseproof.fusion.helion_ops:layer_norm", requires="helion",
          passes=("forward",)),
    _peer("rms_norm", "helion", target="fuseproof.fusion.helion_ops:rms_norm", requires="helion",
          passes=("forward",)),
    _peer("rms_norm", "liger", target=f"{_PEERS_MODULE}:rms_norm_liger", requires="liger_kernel"),
    _peer("rms_norm", "quack", target=f"{_PEERS_MODULE}:rms_norm_quack", requires="quack"),
)
# fmt: on


def _rows() -> Iterable[Implementation]:
    for variants in _VARIANTS:
        yield from _torch_rows(variants)
        yield from (row for row in PEERS if row.operator == variants.operator)
        yield from _jax_rows(variants)
        yield from _tensorflow_rows(variants)


def _torch_rows(variants: _Variants) -> Iterable[Implementation]:
    operator = variants.operator
    row = partial(Implementation, operator, framework="torch")
    for source in ("", "-composed"):
        target = f"fuseproof.fusion.torch_ops:{operator}{source.replace('-', '_')}"
        eager = f"torch.eager{source}"
        yield row(eager, target=target, dtypes=_DTYPES if source else variants.library_dtypes)
        for suffix, mode in _TORCH_MODES.items():
            name = f"torch.compile{suffix}{source}"
            yield row(name, target=target, compiled=mode, baseline=eager)
    yield row(
        "torch.eager-inplace",
        target=f"fuseproof.fusion.torch_ops:{operator}_inplace",
        baseline="torch.eager-composed",
        passes=("forward",),
        consumes=variants.overwritten,
    )
    if "triton" in variants.kernels:
        yield row(
            "triton",
            target=variants.triton or f"fuseproof.kernels.triton.{operator}:{operator}",
            compiled="kernel",
            dtypes=variants.triton_dtypes,
            devices=("cuda",),
        )


def _jax_rows(variants: _Variants) -> Iterable[Implementation]:
    operator, layout = variants.operator, variants.library_layout
    row = partial(Implementation, operator, framework="jax")
    target = f"fuseproof.fusion.jax_ops:{operator}"
    for name, compiled in (("jax.eager", None), ("jax.jit", "jit")):
        yield row(name, target=target, compiled=compiled, layout=layout, dtypes=variants.library_dtypes)
    yield row(
        "jax.jit-donate",
        target=target,
        compiled="jit",
        baseline="jax.jit",
        consumes=(variants.donated,),
        layout=layout,
    )
    if variants.composed_apart:
        composed = "jax.eager-composed"
        yield row(composed, target=f"{target}_composed")
        yield row("jax.jit-composed", target=f"{target}_composed", compiled="jit", baseline=composed)
    if "pallas" in variants.kernels:
        yield row(
            "pallas",
            target=f"fuseproof.kernels.pallas.{operator}:{operator}",
            compiled="jit",
            devices=("tpu",),
            interpreted=("cpu",),
        )


def _tensorflow_rows(variants: _Variants) -> Iterable[Implementation]:
    operator = variants.operator
    row = partial(Implementation, operator, framework="tensorflow")
    for prefix, source, module, layout in (
        ("tf", "", "tensorflow_ops", "bhsd"),
        ("tf", "-composed", "tensorflow_ops", "bhsd"),
        ("keras", "", "keras_ops", variants.library_layout),
    ):
        if source and not variants.composed_apart:
            continue
        target = f"fuseproof.fusion.{module}:{operator}{source.replace('-', '_')}"
        eager = f"{prefix}.eager{source}"
        yield row(eager, target=target, layout=layout)
        for mode in ("function", "xla"):
            yield row(f"{prefix}.{mode}{source}", target=target, compiled=mode, baseline=eager, layout=layout)


IMPLEMENTATIONS: tuple[Implementation, ...] = tuple(_rows())


def table(extra: Iterable[str] = ()) -> tuple[Implementation, ...]:
    """Our rows, then those of installed packages, of pyproject.toml here, and of `extra` (`module:NAME`).

    Raises UserError for a reference that does not resolve, for two rows of one name, and for a row whose
    operator or baseline does not exist.
    """
    # Here and not at the top, because `--help` would pay for them.
    from importlib.metadata import entry_points

    from fuseproof import operators

    references = [
        *(point.value for point in entry_points(group="fuseproof.implementations")),
        *_pyproject_references(),
        *extra,
    ]
    rows = list(IMPLEMENTATIONS)
    for reference in references:
        added = resolve(reference)
        added = (added,) if isinstance(added, Implementation) else added
        if not isinstance(added, tuple | list) or not all(isinstance(row, Implementation) for row in added):
            raise UserError(f"{reference} is not a tuple of fuseproof.Implementation rows")
        rows += [_with_absolute_target(row) for row in added]
    seen: set[tuple[str, str]] = set()
    for row in rows:
        operators.get(row.operator)
        if (row.operator, row.name) in seen:
            raise UserError(f"two implementations of {row.operator} are named {row.name!r}; rename one")
        seen.add((row.operator, row.name))
    for row in rows:
        if (row.operator, row.baseline) not in seen:
            raise UserError(
                f"{row.operator} {row.name}: no implementation of {row.operator} is named {row.baseline!r}, "
                "its baseline"
            )
    return tuple(rows)


def _with_absolute_target(row: Implementation) -> Implementation:
    """A run may be resumed, and its workers started, from another folder than this."""
    place, _, attribute = row.target.rpartition(":")
    if not place.endswith(".py"):
        return row
    if not Path(place).is_file():
        raise UserError(f"{row.operator} {row.name}: no such file: {place}, its target")
    return replace(row, target=f"{Path(place).absolute()}:{attribute}")


def resolve(reference: str) -> Any:
    """The attribute that `module:attribute` or `path/to/file.py:attribute` names. Raises UserError."""
    place, _, attribute = reference.rpartition(":")
    if not place or not attribute:
        raise UserError(f"{reference!r} is not module:attribute or file.py:attribute")
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else _import(place)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"cannot import {place!r} of {reference!r}: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{place!r} of {reference!r} failed on import: {type(error).__name__}: {reason}"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UserError(f"{place!r} has no attribute {attribute!r}") from None


def resolve_function(reference: str) -> Callable[..., Any]:
    """As `resolve`, for a target. Raises UserError if it cannot be called."""
    function = resolve(reference)
    if not callable(function):
        raise UserError(f"{reference} is not callable")
    return function  # type: ignore[no-any-return]


def _import(name: str) -> ModuleType:
    # A user's module lies where they stand; an entry-point script does not put that folder on the path.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def _load_file(path: Path) -> ModuleType:
    name = f"fuseproof_user_{path.resolve().stem}_{abs(hash(str(path.resolve()))):x}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # else the next row of this file would find the half that was executed
        raise
    return module


def _pyproject_references() -> list[str]:
    path = Path("pyproject.toml")
    if not path.is_file():
        return []
    try:
        section = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("fuseproof", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path.resolve()} is not TOML: {error}") from None
    references = section.get("implementations", [])
    if not isinstance(references, list) or not all(isinstance(r, str) for r in references):
        raise UserError(f"{path.resolve()}: [tool.fuseproof] implementations must be a list of 'module:NAME'")
    return references
