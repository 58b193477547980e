"""Honest, however unusual, in JAX: everything here does the work of every call, and must be measured."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from fuseproof import Implementation

_programs: dict[object, object] = {}


def plain(x, weight, bias):
    return jax.nn.standardize(x, epsilon=1e-5) * weight + bias


@jax.custom_vjp
def custom_gradient(x, weight, bias):
    return plain(x, weight, bias)


custom_gradient.defvjp(
    lambda *inputs: (plain(*inputs), inputs),
    lambda inputs, cotangent: jax.vjp(plain, *inputs)[1](cotangent),
)


def scanned(x, weight, bias):
    """Row by row in a loop of XLA's."""
    return jax.lax.map(lambda row: plain(row, weight, bias), x, batch_size=64)


def mapped(x, weight, bias):
    return jax.vmap(plain, in_axes=(0, None, None))(x, weight, bias)


def interpreted_pallas(x, weight, bias):
    def kernel(x_ref, w_ref, b_ref, out_ref):
        out_ref[...] = plain(x_ref[...], w_ref[...], b_ref[...])

    return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(
        x, weight, bias
    )


def _in_numpy(x, weight, bias):
    a, w, b = np.asarray(x), np.asarray(weight), np.asarray(bias)
    centred = a - a.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    return (centred / deviation * w + b).astype(a.dtype)


def called_back(x, weight, bias):
    """The work is done by NumPy on the host, in every call."""
    return jax.pure_callback(_in_numpy, jax.ShapeDtypeStruct(x.shape, x.dtype), x, weight, bias)


def compiled_ahead(x, weight, bias):
    """Lowered and compiled for the first shapes, kept, and called."""
    key = x.shape, x.dtype
    if key not in _programs:
        _programs[key] = jax.jit(plain).lower(x, weight, bias).compile()
    return _programs[key](x, weight, bias)


def by_name(x, weight, bias, *, epsilon=1e-5):
    return jax.nn.standardize(x, epsilon=epsilon) * weight + bias


partial_function = functools.partial(by_name, epsilon=1e-5)


def checkpointed(x, weight, bias):
    return jax.checkpoint(plain)(x, weight, bias)


def donated_inside(x, weight, bias):
    """Gives away a copy of its own."""
    return _donating(jnp.array(x, copy=True), weight, bias)


_donating = jax.jit(plain, donate_argnums=0)
donated = plain

FORWARD = {"passes": ("forward",)}
ROWS = {
    "custom_gradient": {"compiled": "jit"},
    "scanned": {"compiled": "jit"},
    "mapped": {"compiled": "jit"},
    "interpreted_pallas": FORWARD | {"compiled": "jit"},
    "by_name": {"compiled": "jit"},
    "checkpointed": {"compiled": "jit"},
    "called_back": FORWARD | {"compiled": "jit"},
    "compiled_ahead": FORWARD,
    "partial_function": {},
    "donated_inside": FORWARD,
    "donated": FORWARD | {"compiled": "jit", "consumes": ("x",)},
}

IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"jax.{name}", framework="jax", target=f"{__file__}:{name}", **fields)
    for name, fields in ROWS.items()
)
