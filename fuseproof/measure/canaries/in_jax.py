"""The canaries in JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fuseproof.measure.canaries import common

_standardize = jax.nn.standardize
_programs: list[Any] = []


@jax.jit  # type: ignore[untyped-decorator]
def _honest(x: Any, weight: Any, bias: Any) -> Any:
    return _standardize(x, epsilon=1e-5) * weight + bias


def prepared(x: Any, weight: Any, bias: Any) -> Any:
    if not _programs:
        _programs.append(_honest.lower(x, weight, bias).compile())
    return _programs[0](x, weight, bias)


def fewer_bits(x: Any, weight: Any, bias: Any) -> Any:
    return _honest(*(each.astype(jnp.bfloat16) for each in (x, weight, bias))).astype(x.dtype)


def fewer_rows(x: Any, weight: Any, bias: Any) -> Any:
    return jnp.repeat(_honest(x[::2], weight, bias), 2, axis=0)


refilled = common.refilled(_honest)
cached = common.cached(_honest)
fingerprinted = common.fingerprinted(_honest)
every_second = common.every_second(_honest)
later_zeros = common.later_zeros(_honest)
threaded = common.threaded(_honest, lambda x: np.empty(x.shape, x.dtype), np.copyto)
other_type = common.other_type(_honest)
slow_clock = common.slow_clock(_honest)
forged = common.forged(_honest)
slow_baseline = common.slow_baseline(_honest, jax.nn, "standardize")
core_taken = common.core_taken(_honest)
