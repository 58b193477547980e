"""Layers and models of Keras 3: the names of what they hold, and layers made again from what describes them.

Keras numbers its layers in the order in which a process makes them, so its own names differ from process to
process. Here names are those of attributes and places, as in PyTorch: `blocks.0.dense.kernel`. Keras is
imported only when there is a layer, which has imported it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fuseproof.child_process import PlainError

_NUMBERED = re.compile(r"variable(_\d+)?")


def is_layer(given: Any) -> bool:
    keras = sys.modules.get("keras")  # whoever made a layer has imported it
    return keras is not None and isinstance(given, keras.Layer)


def weights(layer: Any) -> dict[str, Any]:
    """The variables of a layer and those within, by name; without counts of random numbers and metrics."""
    found: dict[str, Any] = {}
    for name, variable in _walked(layer, ""):
        if not any(variable is known for known in found.values()):  # a layer may be used twice
            # Variables of one name in one layer are numbered.
            same = sum(known == name or known.startswith(f"{name}#") for known in found)
            found[f"{name}#{same}" if same else name] = variable
    return found


def _walked(layer: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    children = list(_children(layer))
    theirs = {id(each) for _, child in children for each in child.weights}
    for variable in layer.weights:
        if id(variable) not in theirs:
            yield prefix + _own_name(layer, variable), variable
    for name, child in children:
        yield from _walked(child, f"{prefix}{name}.")


def _own_name(layer: Any, variable: Any) -> str:
    """The name of a layer's variable; of one that its author gave none, and Keras a number, its attribute."""
    if not _NUMBERED.fullmatch(variable.name):
        return str(variable.name)
    return next((name for name, value in vars(layer).items() if value is variable), "variable")


def _children(layer: Any) -> Iterator[tuple[str, Any]]:
    """Layers right within a layer, by the attribute that holds them, else by their places."""
    places = {id(child): name for name, child in _held(layer)}
    # Of models without what stands for their inputs, which one that is made again may have or not.
    inside = getattr(layer, "layers", None) or layer._flatten_layers(include_self=False, recursive=False)
    for place, child in enumerate(inside):
        yield places.get(id(child), str(place)), child


def _held(layer: Any) -> Iterator[tuple[str, Any]]:
    for attribute, value in vars(layer).items():
        if attribute.startswith("_"):
            continue
        yield attribute, value
        if isinstance(value, Mapping):
            yield from ((f"{attribute}.{key}", each) for key, each in value.items())
        elif isinstance(value, list | tuple):
            yield from ((f"{attribute}.{place}", each) for place, each in enumerate(value))


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a layer is made of, as plain data and classes, which travels to other processes.

    kinds: the classes of the layers within by their names, as a configuration has them.
    values: of its weights, as arrays.
    """

    kind: type
    config: Mapping[str, Any]
    built: Mapping[str, Any] | None
    kinds: Mapping[str, type]
    values: list[Any]

    @classmethod
    def of(cls, layer: Any) -> Description:
        """Raises NotImplementedError, which says what to do, for a layer whose arguments nobody knows."""
        return cls(
            kind=type(layer),
            config=layer.get_config(),
            built=layer.get_build_config(),
            kinds={type(each).__name__: type(each) for each in layer._flatten_layers()},
            values=layer.get_weights(),
        )


def again(description: Description, dtype: str = "", build: Callable[[Any], None] | None = None) -> Any:
    """The layer that was described, in its own dtype or in another.

    build: called with it if it has no weights yet, or not all. Raises PlainError for one that has others.
    """
    import keras

    config = _in_dtype(description.config, dtype) if dtype else description.config
    own = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype or own)
    try:
        with keras.saving.custom_object_scope(dict(description.kinds)):
            layer: Any = description.kind.from_config(config)  # type: ignore[attr-defined]
        layer.build_from_config(description.built)
        if build is not None and len(layer.weights) != len(description.values or [0]):
            build(layer)
    finally:
        keras.config.set_dtype_policy(own)
    if description.values:
        try:
            layer.set_weights(description.values)
        except ValueError:
            raise PlainError(
                f"{description.kind.__name__} made again of its configuration has other weights; give what "
                "makes it, a function or a class, instead of the layer"
            ) from None
    return layer


def _in_dtype(config: Any, dtype: str) -> Any:
    """A configuration in which every layer of real numbers has this dtype."""
    if isinstance(config, dict):
        return {
            key: dtype if key == "dtype" and "float" in str(value) else _in_dtype(value, dtype)
            for key, value in config.items()
        }
    return [_in_dtype(each, dtype) for each in config] if isinstance(config, list) else config
