"""The fixture `fuseproof`: a user's function against a baseline, in a test that asserts on the interval.

Each call measures in fresh processes, in palindromes, as `fuseproof.compare` does; pytest-benchmark gets the
rounds of the function. What is asserted is the limit of the 95 % interval, never a point.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from fuseproof.pytest_plugin import limit, settings
from fuseproof.pytest_plugin.replay import Replay

if TYPE_CHECKING:
    from fuseproof.api.comparison import Comparison
    from fuseproof.api.records import Speedup
    from fuseproof.runs.records import Benchmark

# Property of a test that measured: its speedup as a sentence, for the end of the session and JUnit files.
MEASURED = "fuseproof"


@pytest.fixture
def fuseproof(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    _fuseproof_markers: dict[str, Any],
    _fuseproof_replay: Replay,
) -> Callable[..., Comparison]:
    """A function that measures another one against a baseline; called once in a test.

    `fuseproof(function, *arguments, baseline=other, at_least=1.2)` fails the test unless the whole 95 %
    interval of the speedup over `baseline` is at least 1.2. Without `at_least` it only measures. The test
    fails too, and has no times, if a result is wrong. Returns the `Comparison`.

    arguments: arrays of any framework, and what is no array, the same in every call.
    inputs:    instead of them, a function of a seed that returns new ones, as of `fuseproof.compare`.
    baseline:  what the function is compared with.
    reference: what is right: a NumPy function of the same arguments in float64; by default the baseline,
               computed in float64.
    Further keywords are those of `fuseproof.compare`: `seconds`, `cache`, `device`, `blocks`, `palindromes`,
    `precision` and `threads`, which the marker `fuseproof` gives too, and `passes` (one), `differentiable`,
    `dtype`, `flops`, `bytes`, `optimizer`.
    """

    def measure(
        function: Any,
        *arguments: Any,
        baseline: Any,
        at_least: float | None = None,
        inputs: Any = None,
        reference: Any = None,
        **given: Any,
    ) -> Comparison:
        _fuseproof_replay.begin()
        with_ = settings.called(request.config, _fuseproof_markers, given)
        if at_least is not None:
            settings.require_limit(at_least, with_)
        if (inputs is None) == (not arguments):
            pytest.fail("give the function's arguments after it, or else inputs=", pytrace=False)
        _fuseproof_replay.skip_if_disabled()
        settings.skip_without_device(with_)
        name, other = _names(function, baseline)
        found = _compared(
            request.config,
            {other: baseline, name: function},
            name=_workload_name(request.node),
            directory=tmp_path_factory.mktemp("fuseproof") / "run",
            inputs=arguments if inputs is None else inputs,
            baseline=other,
            reference=reference,
            **with_,
        )
        _require_right(found, other)
        speedup, measured = _of(found, name)
        _fuseproof_replay(measured, group=None, extra_info=_extra_info(speedup, measured))
        request.node.user_properties.append((MEASURED, limit.sentence(speedup)))
        if at_least is not None and (reason := limit.reason_against(speedup, at_least, with_)) is not None:
            pytest.fail(f"{reason}. The run: {found.directory}", pytrace=False)
        return found

    return measure


def _compared(config: pytest.Config, functions: dict[str, Any], **arguments: Any) -> Comparison:
    """What `fuseproof.compare` found; the test is skipped without the device, and fails with its refusal."""
    from fuseproof.api.compare import compare
    from fuseproof.errors import UserError
    from fuseproof.measure.reasons import AbsentDevice

    capture = config.pluginmanager.getplugin("capturemanager")
    uncaptured = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
    try:
        with uncaptured:
            return compare(functions, **arguments)
    except AbsentDevice as absent:
        pytest.skip(str(absent))
    except UserError as error:
        pytest.fail(str(error), pytrace=False)


def _require_right(found: Comparison, baseline: str) -> None:
    """The test fails if one of the two was wrong or not measured whole; it is skipped if one cannot run."""
    for each in found.failures:
        if each.kind == "skipped":
            pytest.skip(f"{each.implementation}: {each.message}")
        whose = "the baseline " if each.implementation == baseline else ""
        pytest.fail(
            f"{whose}{each.implementation} failed in the stage {each.stage}: {each.message}", pytrace=False
        )


def _of(found: Comparison, name: str) -> tuple[Speedup, Benchmark]:
    """The speedup and the samples of a function, by the clock of the host."""
    speedup = next((s for s in found.speedups if (s.implementation, s.metric) == (name, "wall")), None)
    measured = next(
        (b for b in found.benchmarks if (b.implementation, b.metric) == (name, "wall")),
        None,
    )
    if speedup is None or measured is None:
        pytest.fail(f"{name} has no block in common with its baseline; measure again", pytrace=False)
    return speedup, measured


def _extra_info(speedup: Speedup, measured: Benchmark) -> dict[str, Any]:
    """What stands beside the rounds in pytest-benchmark's files.

    `params` names no implementation: a group of pytest-benchmark's is whatever its author likes, and what is
    in one is compared by the names of the tests.
    """
    from fuseproof.runs.run_file import benchmark_to_json

    info = benchmark_to_json(measured)["extra_info"]
    del info["baseline"]
    limits = {"low": speedup.low, "high": speedup.high}
    return {
        **info,
        "params": {"metric": measured.metric, "cache": measured.cache},
        "fuseproof": {
            "case": measured.group,
            "implementation": speedup.implementation,
            "baseline": speedup.baseline,
            "speedup": speedup.speedup,
            **{key: value if value != float("inf") else None for key, value in limits.items()},
            "blocks": speedup.blocks,
        },
    }


def _names(function: Any, baseline: Any) -> tuple[str, str]:
    """Names of the two in reports: their own, where these differ."""
    own, other = _name(function), _name(baseline)
    return own, other if other != own else f"{other}-baseline"


def _name(function: Any) -> str:
    from fuseproof.api.functions import Variant

    while isinstance(function, Variant) or (not hasattr(function, "__name__") and hasattr(function, "func")):
        function = function.function if isinstance(function, Variant) else function.func  # of a partial
    if isinstance(function, tuple):  # the parameters of a module, and what takes them
        function = function[-1]
    name = getattr(function, "__name__", type(function).__name__)
    name = re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII)[:80]
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"


def _workload_name(node: pytest.Item) -> str:
    """The name of the test's function, as progress and reports show it."""
    name = re.sub(r"\W", "_", getattr(node, "originalname", node.name), flags=re.ASCII)[:60]
    return name if name[:1].isalpha() else f"test_{name}"
