"""Objects of a session as bytes: by value, as cloudpickle has it, and modules of Equinox and Keras whole.

cloudpickle makes a class empty and gives it its attributes afterwards. Equinox asks a class for its fields
when it is made, and would find none: its modules would have no parameters in another process. Keras looks for
the classes of layers by their names, and would not find those of a script.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle

from fuseproof.frameworks import keras_layers


def dumps(named: Mapping[str, Any]) -> bytes:
    """The bytes of these objects. Raises whatever their own pickling raises."""
    with io.BytesIO() as file:
        _Pickler(file).dump(dict(named))
        return file.getvalue()


def remade(make: Callable[..., type], arguments: tuple[Any, ...], fields: tuple[Any, ...], own: bool) -> type:
    """The class that `make` makes empty of such arguments, as cloudpickle calls it, but with its fields.

    fields: names and metadata. own: whether it has an `__init__` of its author's, which it gets afterwards.
    """
    *before, namespace, tracker, extra = arguments
    namespace = {
        **namespace,
        "__annotations__": {name: Any for name, _ in fields},
        **{name: dataclasses.field(metadata=metadata) for name, metadata in fields},
        **({"__init__": _init} if own else {}),
    }
    return make(*before, namespace, tracker, extra)


def _init(self: object) -> None: ...


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, which knows how classes of Equinox's modules and layers of Keras are made."""

    def reducer_override(self, obj: Any) -> Any:
        if _is_layer(obj):
            return keras_layers.again, (keras_layers.Description.of(obj),)
        found = super().reducer_override(obj)
        if not isinstance(found, tuple) or not _is_equinox(obj):  # it is found by its name, or no such class
            return found
        make, arguments, *rest = found
        names = vars(obj).get("__annotations__", {})
        fields = tuple(
            (each.name, dict(each.metadata)) for each in dataclasses.fields(obj) if each.name in names
        )
        own = "__init__" in vars(obj) and not obj.__dataclass_params__.init
        return remade, (make, arguments, fields, own), *rest


def _is_layer(value: Any) -> bool:
    kinds = type(value).__mro__
    return any(kind.__name__ == "Layer" and kind.__module__.startswith("keras.") for kind in kinds)


def _is_equinox(value: Any) -> bool:
    return isinstance(value, type) and type(value).__module__.partition(".")[0] == "equinox"
