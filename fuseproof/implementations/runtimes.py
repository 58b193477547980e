"""Deployment runtimes as modes of `Implementation.compiled`, and the rows that they are in a population."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A way to export a program and to run what was exported.

    name:     of its implementation in a population, as claims name it.
    packages: that it needs beside the framework, by the names they are imported by.
    apart:    it has threads of its own, which may spin after a call, so it has a process of its own that
              stands still while others are timed; and it runs on the CPU only.
    """

    name: str
    framework: str
    packages: tuple[str, ...] = ()
    apart: bool = False


# By mode.
RUNTIMES: Mapping[str, Runtime] = {
    "torchscript": Runtime(name="torch.script", framework="torch"),
    "torchscript-trace": Runtime(name="torch.trace", framework="torch"),
    "aotinductor": Runtime(name="torch.aoti", framework="torch"),
    "onnxruntime": Runtime(
        name="onnxruntime", framework="torch", packages=("onnxruntime", "onnx", "onnxscript"), apart=True
    ),
    "openvino": Runtime(name="openvino", framework="torch", packages=("openvino",), apart=True),
    "export": Runtime(name="jax.export", framework="jax"),
    "saved_model": Runtime(name="tf.saved_model", framework="tensorflow"),
    "litert": Runtime(name="litert", framework="tensorflow", packages=("ai_edge_litert",), apart=True),
}

# A program is exported to be called, not to be trained.
PASSES = ("forward", "inference")


def modes(framework: str) -> tuple[str, ...]:
    """Those of a framework."""
    return tuple(mode for mode, each in RUNTIMES.items() if each.framework == framework)


def reason_not_installed(mode: str) -> str | None:
    """Which package of a runtime is missing, with the command that installs it, else None. Imports none."""
    missing = [each for each in RUNTIMES[mode].packages if importlib.util.find_spec(each) is None]
    if not missing:
        return None
    are = "are" if len(missing) > 1 else "is"
    return f"{' and '.join(missing)} {are} not installed; pip install 'fuseproof[runtimes]'"
