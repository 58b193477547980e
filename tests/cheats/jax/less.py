"""Less is computed: in fewer bits, on fewer rows, without gradients; or others compute more.

Sources: KernelBench#165, arXiv 2509.14279, KernelBench#82.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

from fuseproof import Implementation

_standardize = jax.nn.standardize
_clock, _started = time.perf_counter, time.perf_counter()


@jax.jit
def _honest(x, weight, bias):
    return _standardize(x, epsilon=1e-5) * weight + bias


def bfloat16(x, weight, bias):
    return _honest(*(each.astype(jnp.bfloat16) for each in (x, weight, bias))).astype(x.dtype)


def every_second_row(x, weight, bias):
    return jnp.repeat(_honest(x[::2], weight, bias), 2, axis=0)


def first_64_rows(x, weight, bias):
    return jnp.zeros_like(x).at[:64].set(_honest(x[:64], weight, bias))


def gradients_stopped(x, weight, bias):
    """The gradients of weight and bias are those of nothing."""
    return _honest(x, jax.lax.stop_gradient(weight), jax.lax.stop_gradient(bias))


@jax.custom_vjp
def gradients_of_ones(x, weight, bias):
    """Its pull-back takes any cotangent for ones."""
    return _honest(x, weight, bias)


def _forward(x, weight, bias):
    return _honest(x, weight, bias), (x, weight, bias)


def _backward(kept, cotangent):
    return jax.vjp(_honest, *kept)[1](jnp.ones_like(cotangent))


gradients_of_ones.defvjp(_forward, _backward)


def slower_baseline(x, weight, bias):
    def slow(*arguments, **named):
        time.sleep(1e-3)
        return _standardize(*arguments, **named)

    jax.nn.standardize = slow
    return _honest(x, weight, bias)


def precision_of_others(x, weight, bias):
    jax.config.update("jax_default_matmul_precision", "bfloat16")
    return _honest(x, weight, bias)


def doubles_for_others(x, weight, bias):
    """From now on JAX computes in float64 where nobody says otherwise."""
    jax.config.update("jax_enable_x64", True)
    return _honest(x, weight, bias)


def clock(x, weight, bias):
    time.perf_counter = lambda: _started + (_clock() - _started) / 4
    return _honest(x, weight, bias)


EXPECT = {
    "bfloat16": r"wrong",
    "every_second_row": r"wrong",
    "first_64_rows": r"wrong",
    "gradients_stopped": r"wrong",
    "gradients_of_ones": r"wrong",
    "slower_baseline": r"patched|replaced|changed",
    "precision_of_others": r"changed|state",
    "doubles_for_others": r"changed|state",
    "clock": r"patched|replaced|changed",
}

IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"jax.less_{name}", framework="jax", target=f"{__file__}:{name}")
    for name in EXPECT
)
