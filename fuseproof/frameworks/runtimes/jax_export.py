"""`jax.export`: a jitted function as StableHLO in a file, compiled by XLA again when it is loaded and called.

Its parameters stay arguments, as they are in JAX: the file holds the program and no weights.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
from jax import export as jax_export

from fuseproof.frameworks import Bound, Deployment, Step
from fuseproof.frameworks.runtimes import deployed


def exported(step: Step) -> Step:
    """A step whose `bind` gives a `functools.partial` of a jitted function, with the one that is loaded."""
    deployment = Deployment()
    loaded: list[Any] = []

    def bind(inputs: Any, cotangents: Any) -> Bound:
        bound: Any = step.bind(inputs, cotangents)
        if not loaded:
            found = deployed("jax.export", deployment, functools.partial(_export, bound), _load)
            loaded.append(found)
        return functools.partial(loaded[0], *bound.args)

    return Step(bind=bind, unpack=step.unpack, deployment=deployment)


def _export(bound: Any, folder: Path) -> Path:
    file = folder / "program.stablehlo"
    file.write_bytes(jax_export.export(bound.func)(*bound.args).serialize())
    return file


def _load(file: Path) -> Any:
    return jax.jit(jax_export.deserialize(bytearray(file.read_bytes())).call)
