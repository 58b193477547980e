"""How a test is measured: by the command line, by its call, by its markers, in this order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

MARKER: Final = "fuseproof"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value)


# What a marker and a call may say: what is right, in words, and whether a value is. They are arguments of
# `fuseproof.compare`, which takes some of the wrong ones for none.
_KINDS: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "seconds": ("a number of seconds above 0", _is_number),
    "cache": ("'warm' or 'cold'", lambda value: value in ("warm", "cold")),
    "device": ("'cpu' or 'cuda'", lambda value: value in ("cpu", "cuda")),
    "blocks": ("a whole number from 1", _is_count),
    "palindromes": ("a whole number from 1", _is_count),
    "precision": ("a share between 0 and 1", lambda value: _is_number(value) and value < 1),
    "threads": ("a whole number from 1", _is_count),
}
# What else a call may say of the functions, also as `fuseproof.compare` takes it.
_OF_FUNCTIONS: Final = ("passes", "differentiable", "dtype", "flops", "bytes", "optimizer")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    names = ", ".join(f"{name}=" for name in _KINDS)
    config.addinivalue_line("markers", f"{MARKER}({names}): how the fixture `fuseproof` measures a test")


@pytest.fixture
def _fuseproof_markers(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the markers of a test say, which is skipped without its device before it makes its tensors there.

    A fixture takes this before `benchmark`, which warns if it is not used.
    """
    found = _marked(request.node)
    skip_without_device(found)
    return found


def skip_without_device(markers: Mapping[str, Any]) -> None:
    """Skip a test whose device is certainly not here, before it makes its tensors there."""
    if markers.get("device") == "cuda":
        from fuseproof.measure.reasons import reason_without_driver

        if reason := reason_without_driver():
            pytest.skip(f"device='cuda': {reason}")


def _marked(node: pytest.Item) -> dict[str, Any]:
    """What the markers of a test say, the nearest one first; the test fails if one is wrong."""
    found: dict[str, Any] = {}
    for marker in node.iter_markers(MARKER):
        if marker.args:
            _fail(f"the marker {MARKER} takes {_names(_KINDS)} by keyword, not {marker.args[0]!r}")
        _require(f"the marker {MARKER}", marker.kwargs, _KINDS)
        found = {**marker.kwargs, **found}
    return found


def called(config: pytest.Config, markers: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All that a call is measured with; the test fails if something given is wrong."""
    _require("fuseproof", given, [*_KINDS, *_OF_FUNCTIONS])
    if not isinstance(given.get("passes", ""), str):
        _fail("passes is one pass, by name: a test has one benchmark; parametrize it")
    options = {name: config.getoption(f"--fuseproof-{name}") for name in ("blocks", "palindromes")}
    found = {name: value for name, value in options.items() if value is not None}
    _require("the command line", found, _KINDS)
    return {**markers, **given, **found}


def require_limit(at_least: Any, settings: Mapping[str, Any]) -> None:
    """The test fails for a limit that nothing could reach, before anything is measured."""
    if not _is_number(at_least):
        _fail(f"at_least is a speedup above 0, such as 1.2, not {at_least!r}")
    if settings.get("blocks") == 1:
        _fail("at_least is compared with an interval, and one block has none; measure 3 blocks or more")


def _require(whose: str, given: Mapping[str, Any], known: Any) -> None:
    for name, value in given.items():
        if name not in known:
            _fail(f"{whose} takes no {name!r}; it takes {_names(known)}")
        if name in _KINDS and not _KINDS[name][1](value):
            _fail(f"{name} is {_KINDS[name][0]}, not {value!r}")


def _names(known: Any) -> str:
    return ", ".join(known)


def _fail(message: str) -> None:
    pytest.fail(message, pytrace=False)
