"""The record of an implementation: one way to compute an operator."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any

from fuseproof.errors import UserError
from fuseproof.implementations import runtimes
from fuseproof.implementations.runtimes import RUNTIMES, Runtime

# Framework by the name of its module in fuseproof/frameworks; each worker process imports one of them.
FRAMEWORKS: Mapping[str, str] = {"torch": "torch.eager", "jax": "jax.eager", "tensorflow": "tf.eager"}

HALF = ("float16", "bfloat16")
IEEE = ("float32", *HALF)
DTYPES = (*IEEE, "tf32")
PRODUCTS = (*DTYPES, "float8_e4m3")

# How to install what an implementation `requires`, by the name it is imported by.
_INSTALL: Mapping[str, str] = {
    "liger_kernel": "pip install 'fuseproof[peers]'",
    "quack": "pip install 'fuseproof[peers]'",
    "helion": "pip install 'fuseproof[peers]'",
    "xformers": "pip install 'fuseproof[peers]'",
    "transformers": "pip install 'fuseproof[models]'",
    "keras": "pip install keras",
    "flash_attn": "pip install flash-attn --no-build-isolation",
}

# Modes of torch.compile that use CUDA graphs, each with the mode that it is without them.
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
# Operators that compute no matrix product, the only thing that max-autotune tunes.
_WITHOUT_PRODUCT = ("layer_norm", "rms_norm", "softmax", "cross_entropy", "rotary", "embedding")

# Passes that are an operator's; the others are a module's.
_OF_OPERATORS = ("forward", "forward_backward")
# Values that fields may hold.
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "passes": (*_OF_OPERATORS, "inference", "training_step"),  # tensor.ALL_PASSES, whose
    # import would cost every `--help`
    "dtypes": PRODUCTS,  # operators.DTYPES, for the same reason
    "devices": ("cpu", "cuda", "tpu"),
    "interpreted": ("cpu",),
    "layout": ("bhsd", "bshd", "channels_last"),
}


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operator.

    workload:  name of the workload.
    name:      `framework.variant`, unique for the operator.
    framework: `torch`, `jax` or `tensorflow`, whose tensors the target takes.
    target:    `module:function` or `path/to/file.py:function`; called with the operator's inputs by position,
               in the operator's order, by keyword from the first parameter that has another input's name, and
               with its options by keyword; returns the output.
    compiled:  None to call the target as it is, else the compiler's mode: for torch a mode of
               torch.compile, with `+dynamic` after it for one program for all shapes, or `kernel` for a
               target that compiles itself at its first call; for jax `jit`; for tensorflow `function` or
               `xla`. Or a deployment runtime, which runs what was exported, forward and in inference: for
               torch `torchscript`, `torchscript-trace`, `aotinductor`, `onnxruntime`, `openvino`; for jax
               `export`; for tensorflow `saved_model`, `litert`.
    baseline:  the implementation that its speedup and its error limit refer to; by default the framework's
               library call.
    passes:    passes that the target can compute; of a module all of its own, unless some are named.
    dtypes:    dtypes of cases the target can compute.
    devices:   devices it can be timed on.
    interpreted: devices where it runs in an interpreter: its results are checked, its time means nothing.
    consumes:  inputs that a call may use up: written over in place, or donated to XLA where `compiled` is
               `jit`. Every call gets new copies of them, made before the clock starts.
    requires:  a package beside the framework that the target imports.
    layout:    order of the axes of 4-dimensional tensors the target takes and returns, `bhsd` (batch, heads,
               length, head dim) or `bshd`; conversion is never timed. `channels_last`: PyTorch's memory
               format of that name, for them and for the module.
    outside:   set by Fuseproof for what a user's module declares, wherever its target lies.
    """

    workload: str
    name: str
    _: KW_ONLY
    framework: str
    target: str
    compiled: str | None = None
    baseline: str = ""
    passes: tuple[str, ...] = _OF_OPERATORS
    dtypes: tuple[str, ...] = DTYPES
    devices: tuple[str, ...] = ("cpu", "cuda")
    interpreted: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()
    requires: str = ""
    layout: str = "bhsd"
    outside: bool = False

    def __post_init__(self) -> None:
        for field in ("workload", "name", "framework", "target", "baseline", "requires", "layout"):
            self._refuse_other_than_string(field, getattr(self, field))
        if self.framework not in FRAMEWORKS:
            raise UserError(
                f"{self.workload} {self.name}: unknown framework {self.framework!r}; "
                f"there are {', '.join(FRAMEWORKS)}"
            )
        if self.requires and not self.requires.isidentifier():  # looking for a submodule imports its package
            raise UserError(
                f"{self.workload} {self.name}: requires {self.requires!r} is no name of a top-level package"
            )
        if self.layout == "channels_last" and self.framework != "torch":
            raise UserError(
                f"{self.workload} {self.name}: channels_last is a memory format of PyTorch, "
                f"not of {self.framework}"
            )
        if ":" not in self.target:
            raise UserError(f"{self.workload} {self.name}: target {self.target!r} is not module:function")
        if not self.baseline:
            object.__setattr__(self, "baseline", FRAMEWORKS[self.framework])
        self._refuse_unknown_mode()
        for field in ("consumes", "passes", "dtypes", "devices", "interpreted"):
            values = _as_tuple(getattr(self, field))  # a JSON list becomes the tuple it was
            for value in values:
                self._refuse_other_than_string(field, value)
            object.__setattr__(self, field, values)
        for field, known in _KNOWN.items():
            for value in _as_tuple(getattr(self, field)):
                if value not in known:
                    raise UserError(
                        f"{self.workload} {self.name}: unknown {field} {value!r}; "
                        f"there are {', '.join(known)}"
                    )

    def _refuse_other_than_string(self, field: str, value: object) -> None:
        if not isinstance(value, str):
            raise UserError(f"{self.workload} {self.name}: {field} must be a string, not {value!r}")

    def _refuse_unknown_mode(self) -> None:
        if self.compiled is None:
            return
        self._refuse_other_than_string("compiled", self.compiled)
        known = (*_MODES[self.framework], *runtimes.modes(self.framework))
        mode, plus, shapes = self.compiled.partition("+")
        fixed = ("kernel", *RUNTIMES)
        dynamic = self.framework == "torch" and mode not in fixed and shapes == "dynamic"
        if mode not in known or (plus and not dynamic):
            more = ", +dynamic after those of torch.compile" if self.framework == "torch" else ""
            raise UserError(
                f"{self.workload} {self.name}: {self.framework} has no compile mode {self.compiled!r}; "
                f"there are {', '.join(known)}{more}, and None"
            )

    @property
    def runtime(self) -> Runtime | None:
        """The deployment runtime that it is exported to; None of others."""
        return RUNTIMES.get(self.compiled or "")

    @property
    def is_foreign(self) -> bool:
        """Whether its code is from outside the project: it is run, and not trusted to be right."""
        place, _, _ = self.target.rpartition(":")
        own = place.startswith("fuseproof.") and not place.endswith(".py")
        return self.outside or bool(self.requires) or not own

    @property
    def yardstick(self) -> str:
        """By whose errors and times it is believed: for one from outside the library's call.

        Its author may compare it with any baseline, but not be judged by one. Of a user's workload there is
        no library's call, and the baseline has to do.
        """
        from fuseproof.workloads.builtin import NAMES  # at the top it would slow down `--help`

        judged = self.is_foreign and self.workload in NAMES
        return FRAMEWORKS[self.framework] if judged else self.baseline

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Implementation:
        """The inverse of `to_json`, of any version.

        Raises TypeError for other fields, UserError for other values.
        """
        return cls(**cls.current_fields(fields))

    @staticmethod
    def current_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields as they are called here; earlier versions called a workload an operator."""
        return {"workload" if name == "operator" else name: value for name, value in fields.items()}

    def takes(self, pass_: str) -> bool:
        """Whether the target can compute a pass that its workload has."""
        return pass_ in self.passes or (pass_ not in _OF_OPERATORS and {*self.passes} <= {*_OF_OPERATORS})

    def reason_against(self, pass_: str) -> str | None:
        """Why what was exported to its runtime has no such pass, else None."""
        if self.runtime is None or pass_ in runtimes.PASSES:
            return None
        return f"{self.compiled} runs what was exported: inference only, no {pass_}"

    def reason_not_on(self, device: str) -> str | None:
        """Why it cannot be timed on `device`, else None."""
        mode = (self.compiled or "").partition("+")[0]
        if device != "cuda" and self.framework == "torch" and mode in CUDA_GRAPHS:
            return f"CUDA graphs need cuda; without them {mode!r} is {CUDA_GRAPHS[mode]!r}"
        if device != "cuda" and mode == "max-autotune-no-cudagraphs" and self.workload in _WITHOUT_PRODUCT:
            return f"{self.workload} has no product to tune; on {device} {mode!r} is 'default'"
        if self.runtime is not None and self.runtime.apart and device != "cpu":
            return f"{mode} is bound to memory of the CPU here; this run is on {device}"
        if device in self.devices:
            return self._reason_not_installed()
        if device in self.interpreted:
            return f"interpreted on the {device.upper()}: correctness only, never timed"
        return f"needs {' or '.join(self.devices)}; this run is on {device}"

    def _reason_not_installed(self) -> str | None:
        if self.runtime is not None and (reason := runtimes.reason_not_installed(self.compiled or "")):
            return reason
        return reason_not_installed(self.requires)


def reason_not_installed(package: str) -> str | None:
    """How to install a package, if one is named and is not installed, else None. Does not import it."""
    if not package or importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed; {_INSTALL.get(package, 'install it first')}"


def _as_tuple(given: Any) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
