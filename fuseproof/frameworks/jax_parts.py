"""What a module of JAX is made of: arrays by name, and how a module is put together of them again.

A module is one of Equinox, Flax NNX or Keras, or, without a library, a pair `(parameters, apply)`, whose
apply takes the parameters and the inputs. No library is imported here: whoever made its
module has imported it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fuseproof.child_process import PlainError
from fuseproof.frameworks import calling, jax_keras, keras_layers
from fuseproof.frameworks.jax_records import Leaves, Parts

# The name of the only parameter of a pair whose parameters are a single array.
ONLY = "value"
_WANTED = "an equinox.Module, a flax.nnx.Module, a keras.Layer or a pair (parameters, apply)"


def make(
    target: Any,
    fields: Mapping[str, object],
    dtype: str,
    device: Any,
    example: Callable[[], Mapping[str, Any]],
) -> Any:
    """The module that a target is or makes, its real numbers in this dtype, on the device.

    example: arguments of a call, for one that makes its parameters when it is first called.
    Raises PlainError for a target that is and makes no module.
    """
    # The same key gives other numbers in 64 bits: the referee must get the module that the workers have.
    with jax.enable_x64(False):
        module = calling.made(target, fields, _is_module, _WANTED, _why_not)
    if keras_layers.is_layer(module):  # it is made again, because its dtype is chosen before
        return jax_keras.make(target, fields, dtype, device, example)

    def own(leaf: Any) -> Any:
        if not _is_array(leaf):
            return leaf
        if _is_real(leaf):
            leaf = jnp.asarray(leaf, dtype)
        return jax.device_put(leaf, device)

    if not _is_nnx(module):
        return jax.tree.map(own, module)
    nnx = sys.modules["flax.nnx"]
    graph, variables = nnx.split(module)
    # A number in a variable may change in a call, so it is an array.
    arrays = jax.tree.map(lambda leaf: own(leaf if _is_array(leaf) else jnp.asarray(leaf)), variables)
    return nnx.merge(graph, arrays)


def of(module: Any, *, training: bool) -> Parts:
    """The parts of a module that `make` gave. Raises PlainError for one that cannot be taken apart."""
    if _is_nnx(module):
        return _of_nnx(module, training)
    if _is_equinox(module):
        return _of_equinox(module, training)
    if keras_layers.is_layer(module):
        return jax_keras.parts(module, training=training)
    parameters, apply = module
    return _of_tree(parameters, lambda tree: functools.partial(apply, tree))


def _of_equinox(module: Any, training: bool) -> Parts:
    equinox = sys.modules["equinox"]
    kind = equinox.nn.StateIndex
    if any(isinstance(leaf, kind) for leaf in jax.tree.leaves(module, is_leaf=lambda x: isinstance(x, kind))):
        raise PlainError(
            "an Equinox module with equinox.nn.State is not supported; Flax NNX keeps its statistics in the "
            "module itself, and is"
        )
    return _of_tree(equinox.nn.inference_mode(module, value=not training), lambda tree: tree)


def _of_tree(tree: Any, callable_of: Callable[[Any], Callable[..., Any]]) -> Parts:
    """Of a module without buffers whose leaves are those of a tree; what is no array is part of its code."""
    named, structure = _named(tree)
    leaves = list(named.values())
    trained = [place for place, leaf in enumerate(leaves) if _is_real(leaf)]
    others = [place for place, leaf in enumerate(leaves) if _is_array(leaf) and not _is_real(leaf)]
    names = list(named)
    rest = [leaves[place] for place in others]

    def together(parameters: Sequence[Any], _: Sequence[Any], rest: Sequence[Any]) -> Callable[..., Any]:
        filled = list(leaves)
        for places, values in ((trained, parameters), (others, rest)):
            for place, value in zip(places, values, strict=True):
                filled[place] = value
        return callable_of(jax.tree.unflatten(structure, filled))

    return Parts(
        parameters={names[place]: leaves[place] for place in trained},
        buffers={},
        rest=rest,
        together=together,
        apart=lambda _: ([], rest),
    )


def _of_nnx(module: Any, training: bool) -> Parts:
    nnx = sys.modules["flax.nnx"]
    module = nnx.clone(module)
    (module.train if training else module.eval)()
    graph, *states = nnx.split(module, nnx.Param, nnx.RngState, ...)
    (parameters, trained), (rest, random), (buffers, others) = (_named(state, ".value") for state in states)
    if odd := [name for name, leaf in parameters.items() if not _is_real(leaf)]:
        raise PlainError(f"the parameter {odd[0]} is of {parameters[odd[0]].dtype}; real numbers are trained")
    dtypes = [leaf.dtype for leaf in buffers.values()]

    def together(
        parameters: Sequence[Any], buffers: Sequence[Any], rest: Sequence[Any]
    ) -> Callable[..., Any]:
        given = ((trained, parameters), (random, rest), (others, buffers))
        found: Callable[..., Any] = nnx.merge(
            graph, *(jax.tree.unflatten(tree, each) for tree, each in given)
        )
        return found

    def apart(called: Any) -> tuple[Leaves, Leaves]:
        _, _, now, after = nnx.split(called, nnx.Param, nnx.RngState, ...)
        # What a call adds, as values that it notes down, stays out. A statistic keeps its dtype.
        kept = _named(after, ".value")[0]
        found = [jnp.asarray(kept[name], dtype) for name, dtype in zip(buffers, dtypes, strict=True)]
        return found, list(_named(now, ".value")[0].values())

    return Parts(
        parameters=parameters,
        buffers=buffers,
        rest=list(rest.values()),
        together=together,
        apart=apart,
        counts=[place for place, name in enumerate(rest) if name.rpartition(".")[2] == "count"],
    )


def _named(tree: Any, ending: str = "") -> tuple[dict[str, Any], Any]:
    """Leaves by their paths, and the structure. Raises PlainError for two leaves of one name."""
    found, structure = jax.tree.flatten_with_path(tree)
    named = {}
    for path, leaf in found:
        name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(ending) or ONLY
        if name in named:
            raise PlainError(f"two of its arrays are named {name}; keys must hold no dots")
        named[name] = leaf
    return named, structure


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _is_real(leaf: Any) -> bool:
    return _is_array(leaf) and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def _is_module(given: Any) -> bool:
    pair = isinstance(given, tuple) and len(given) == 2 and callable(given[1])
    return _is_nnx(given) or _is_equinox(given) or keras_layers.is_layer(given) or pair


def _is_nnx(given: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(given, nnx.Module)


def _is_equinox(given: Any) -> bool:
    equinox = sys.modules.get("equinox")
    return equinox is not None and isinstance(given, equinox.Module)


def _why_not(found: Any) -> str:
    """What to do with what is no module but looks like one."""
    linen = sys.modules.get("flax.linen")
    if linen is not None and isinstance(found, linen.Module):
        return "; a flax.linen.Module holds no parameters: give (module.init(…), module.apply)"
    return ""
