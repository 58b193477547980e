"""Fresh values for the inputs of a case, so cheap that every leg can have its own.

The values of an input are a window of a pool that is a little longer, at an offset that is drawn anew. A
worker writes the window into the tensor's memory; the referee, in another process, makes the same arrays
from the same two numbers. Whoever has not seen the numbers cannot know the values before they are there.
A workload whose values depend on their place, such as sorted indices, draws all of them anew. In inference
the parameters of a module are drawn once from the seed, which no two blocks share: a deployed model has its
weights for good, and compilers and exported programs may fold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.cases import Case
from fuseproof.workloads import trees
from fuseproof.workloads.operators.base import rounded, standard_normal
from fuseproof.workloads.tensor import STARTED_PASSES, Tensor, result_dtype
from fuseproof.workloads.workload import Arrays

COTANGENT = "cotangent"

# Elements that a pool is longer than its tensor: as many windows, each another tensor.
_LEAST_MARGIN, _MOST_MARGIN = 1 << 12, 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """The values of one tensor: so many of `pool`, which is one-dimensional, from `offset` on."""

    pool: NDArray[Any]
    offset: int
    shape: tuple[int, ...]

    @property
    def array(self) -> NDArray[Any]:
        size = int(np.prod(self.shape, dtype=np.int64))
        return self.pool[self.offset : self.offset + size].reshape(self.shape)


class Values:
    """The values of a case, drawn from `seed`; a `draw` is a number that chooses among them.

    tensors: the inputs and, of a backward pass, the cotangents, named `cotangent_of` their outputs.
    """

    def __init__(self, case: Case, seed: int) -> None:
        self._case = case
        self._seed = seed
        self._last: tuple[int, Arrays] | None = None
        workload = case.workload
        self._inputs = dict(workload.inputs_by_name)
        self._cotangents = (
            {}
            if case.pass_ not in STARTED_PASSES
            else {cotangent_of(name): tensor for name, tensor in workload.cotangents.items()}
        )
        self.tensors: Mapping[str, Tensor] = self._inputs | self._cotangents
        generator = np.random.default_rng(seed)
        self.pools: Arrays = {}
        if workload.pooled:
            drawn = {
                name: workload.draw(name, (_length(tensor),), generator)
                for name, tensor in self._inputs.items()
            }
            self.pools |= rounded(drawn, self._inputs, case.dtype)
        self._parameters = workload.module_parameters
        if case.pass_ == "inference":
            drawn = {n: workload.draw(n, (self._inputs[n].size,), generator) for n in self._parameters}
            self.pools |= rounded(drawn, self._inputs, case.dtype)
        drawn = {n: standard_normal((_length(t),), generator) for n, t in self._cotangents.items()}
        self.pools |= rounded(drawn, self._cotangents, result_dtype(case.dtype))

    def windows(self, draw: int) -> dict[str, Window]:
        """The values of every tensor in a draw."""
        generator = np.random.default_rng(draw)
        found = {}
        for name, pool in self.pools.items():
            tensor = self.tensors[name]
            offset = int(generator.integers(pool.size - tensor.size + 1))
            found[name] = Window(pool=pool, offset=offset, shape=tensor.shape)
        if not self._case.workload.pooled:
            found |= {
                name: Window(pool=array.reshape(-1), offset=0, shape=array.shape)
                for name, array in self._drawn(draw).items()
            }
        return {name: found[name] for name in self.tensors}

    def arrays(self, draw: int) -> tuple[Arrays, Arrays]:
        """Inputs and, by output, cotangents (none of a forward pass) of a draw."""
        arrays = {name: window.array for name, window in self.windows(draw).items()}
        cotangents = {
            name: arrays[cotangent_of(name)]
            for name in self._case.workload.cotangents
            if cotangent_of(name) in arrays
        }
        return {name: arrays[name] for name in self._inputs}, cotangents

    def _drawn(self, draw: int) -> Arrays:
        """The inputs of a draw that have no pool; the last is kept: it is filled in, and later compared."""
        if self._last is None or self._last[0] != draw:
            generator = np.random.default_rng([self._seed, draw])
            flat = trees.flatten(self._case.workload.draw_inputs(generator))
            flat |= {
                name: self._case.workload.draw(name, self._inputs[name].shape, generator)
                for name in self._parameters
                if name not in self.pools
            }
            if {name: np.shape(array) for name, array in flat.items()} != {
                name: tensor.shape for name, tensor in self._inputs.items() if name not in self.pools
            }:
                raise ValueError("draw_inputs gives other shapes or names from draw to draw")
            self._last = draw, rounded(flat, self._inputs, self._case.dtype)
        return self._last[1]


def cotangent_of(output: str) -> str:
    """The name of the cotangent of an output."""
    return COTANGENT if output == trees.OUTPUT else f"{COTANGENT}_{output}"


def _length(tensor: Tensor) -> int:
    return tensor.size + min(_MOST_MARGIN, max(_LEAST_MARGIN, tensor.size))
