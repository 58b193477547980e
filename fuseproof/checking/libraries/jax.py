"""JAX, as a check drives it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fuseproof.checking.libraries import Call, Cotangent, Like, Placed, margins
from fuseproof.errors import UserError
from fuseproof.workloads import trees

NAME = "JAX"
GRADIENTS = True


def tensor(array: NDArray[Any], dtype: str, device: str) -> Any:
    return jax.device_put(jnp.array(array, dtype=dtype, copy=True), _device(device))


def array(tensor: Any) -> NDArray[Any]:
    if not isinstance(tensor, jax.Array | np.ndarray | np.generic):
        raise TypeError(f"{type(tensor).__name__}, not an array")
    return margins.real(np.array(tensor))


def dtype_name(tensor: Any) -> str:
    return str(tensor.dtype)


def converted(tensor: Any, dtype: str, device: str) -> Any:
    own = jnp.asarray(tensor, dtype or None)
    return jax.device_put(own, _device(device)) if device else own


def device_name(tensor: Any) -> str:
    found: str = next(iter(tensor.devices())).platform
    return found


def placed(tensor: Any, *, surrounded: bool = False) -> Placed:
    """A copy; XLA places its arrays itself, so nothing is known to surround one."""
    copy = jnp.array(tensor, copy=True)
    before = np.array(copy).tobytes()
    # An array cannot be assigned to, but given away (`donate_argnums`), or written into by a custom call.
    return Placed(tensor=copy, changed=lambda: copy.is_deleted() or np.asarray(copy).tobytes() != before)


def overwrite(tensor: Any, values: NDArray[Any]) -> bool:
    return False


@contextlib.contextmanager
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def in_float64(function: Any) -> Any:
    return function


def uncompiled(function: Any) -> Any | None:
    """Of what `jax.jit` made, which has `lower`."""
    return getattr(function, "__wrapped__", None) if hasattr(function, "lower") else None


def differentiate(
    call: Call, tensors: Mapping[str, Any], names: Sequence[str], cotangent: Cotangent
) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    def outputs(*leaves: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        results = trees.results(call({**tensors, **dict(zip(names, leaves, strict=True))}))
        real = {key: each for key, each in results.items() if jnp.issubdtype(each.dtype, jnp.floating)}
        return real, results

    started, pullback, results = jax.vjp(outputs, *(tensors[name] for name in names), has_aux=True)
    if not started:
        return None
    given = {name: jnp.asarray(cotangent(name, each.shape), each.dtype) for name, each in started.items()}
    return results, dict(zip(names, pullback(given), strict=True)), list(started)


def fresh_memory(
    like: Iterable[Like], device: str, *, poison: bool, eager: bool
) -> AbstractContextManager[None]:
    """On the host; XLA gives no access to the free blocks of another device."""
    return margins.fresh_on_host(like, poison=poison)


def finish(raw: Any) -> None:
    jax.block_until_ready(raw)


def device_memory(device: str) -> Callable[[], int] | None:
    if device == "cpu":
        return None
    of = _device(device)
    return lambda: int(of.memory_stats()["bytes_in_use"])


def _device(name: str) -> Any:
    if not name:
        return None
    platform = {"cuda": "gpu"}.get(name, name)
    try:
        return jax.devices(platform)[0]
    except (RuntimeError, AssertionError):
        if platform not in ("gpu", "tpu", "cpu"):
            raise UserError(f"JAX knows no device {name!r}; write cpu, cuda or tpu") from None
        raise NotImplementedError(f"JAX sees no {name} here") from None
