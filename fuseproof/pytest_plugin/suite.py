"""pytest-benchmark runs of a suite: measured as `fuseproof run` measures, stored as pytest-benchmark stores.

A test that asks for the fixture `fuseproof_benchmark` is run once for each case and implementation of the
suite, and calling the fixture reports the seconds that were measured. Everything selected is measured
together, in palindromes, when the first of these tests runs. Needs nothing but pytest-benchmark's public
interface: a timer that replays. tests/bench/ has all the code that a user needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from fuseproof.pytest_plugin.replay import REPLAYED, Replay

if TYPE_CHECKING:
    from fuseproof.runs.plan import Plan
    from fuseproof.runs.records import Benchmark, Run

_FIXTURE = "fuseproof_benchmark"
_PLAN = pytest.StashKey["Plan"]()
_RUN = pytest.StashKey["Run | Exception"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fuseproof")
    group.addoption("--fuseproof-suite", default="demo", metavar="SUITE", help="see `fuseproof list`")
    group.addoption(
        "--fuseproof-only", default="", metavar="IMPL,…", help="these implementations and their baselines"
    )
    group.addoption("--fuseproof-device", default="cpu", choices=("cpu", "cuda"))
    group.addoption("--fuseproof-blocks", type=int, metavar="N", help="blocks of fresh processes")
    group.addoption("--fuseproof-palindromes", type=int, metavar="N", help="palindromes in each block")
    group.addoption(
        "--fuseproof-implementations", action="append", default=[], metavar="MODULE:NAME", help="add your own"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if _FIXTURE not in metafunc.fixturenames:
        return
    from fuseproof.cases import join_implementation

    plan = _plan(metafunc.config)
    # Ids and parameters are the same short strings: anything larger would end up in the JSON of every entry.
    pairs = [
        join_implementation(case.group, implementation.name)
        for case in plan.cases
        for implementation in plan.implementations
        if implementation.workload == case.workload.name
    ]
    metafunc.parametrize(_FIXTURE, pairs, ids=pairs, indirect=True)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """A file of ours does not name the host, as pytest-benchmark's does."""
    if _PLAN in config.stash or REPLAYED in config.stash:
        from fuseproof import privacy

        machine_info["node"] = privacy.machine_id()


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(
    machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """This machine is the same one by its name and by its number: pytest-benchmark must not warn."""
    import platform

    from fuseproof import privacy

    saved = compared_benchmark["machine_info"].get("node")
    if saved and saved in (platform.node(), privacy.machine_id()):
        machine_info["node"] = saved


@pytest.fixture
def fuseproof_benchmark(request: pytest.FixtureRequest, _fuseproof_replay: Replay) -> Callable[[], None]:
    """A function that reports this case and implementation to pytest-benchmark.

    Skips, with the reason, what cannot run here; fails where the result was wrong or the measurement failed.
    """
    from fuseproof.cases import split_implementation

    group, implementation = split_implementation(request.param)

    def replayed() -> None:
        from fuseproof.runs.run_file import benchmark_to_json

        _fuseproof_replay.begin()
        _fuseproof_replay.skip_if_disabled()
        measured = _measured(request, group, implementation)
        entry = benchmark_to_json(measured)
        _fuseproof_replay(
            measured, group=measured.group, extra_info={**entry["extra_info"], "params": entry["params"]}
        )

    return replayed


def separate_storage(config: pytest.Config) -> None:
    """Keep pytest-benchmark's saved runs apart by fingerprint, so that machines and GPUs do not mix.

    For a conftest's `pytest_configure` (tryfirst); leaves a storage the user chose alone.
    """
    if config.getoption("benchmark_storage") != "file://./.benchmarks":
        return
    from fuseproof.runs import environment

    settings = _plan(config).settings
    fields = environment.fingerprint_fields(
        environment.describe(device=settings.device, threads=settings.threads), vars(settings)
    )
    config.option.benchmark_storage = f"file://./.benchmarks/{environment.fingerprint(fields)}"


def _plan(config: pytest.Config) -> Plan:
    if _PLAN not in config.stash:
        from fuseproof import implementations, suites
        from fuseproof.errors import UserError
        from fuseproof.measure import planning
        from fuseproof.runs import environment

        try:
            suite = suites.get(config.getoption("--fuseproof-suite"))
            blocks = config.getoption("--fuseproof-blocks") or suite.blocks
            only = tuple(name for name in config.getoption("--fuseproof-only").split(",") if name)
            config.stash[_PLAN] = planning.make(
                suite,
                implementations.table(config.getoption("--fuseproof-implementations")),
                planning.Selection(only=only),
                planning.settings_for(
                    suite,
                    device=config.getoption("--fuseproof-device"),
                    threads=len(environment.usable_cpus()),
                    blocks=blocks,
                    max_blocks=blocks,
                    palindromes=config.getoption("--fuseproof-palindromes"),
                ),
                command=["pytest", *map(str, config.invocation_params.args)],
            )
        except UserError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[_PLAN]


def _measured(request: pytest.FixtureRequest, group: str, implementation: str) -> Benchmark:
    run = _run(request)
    for failure in run.failures:
        if (failure.group, failure.implementation) == (group, implementation):
            if failure.kind == "skipped":
                pytest.skip(failure.message)
            pytest.fail(f"{implementation} failed its {failure.stage}: {failure.message}", pytrace=False)
    return next(
        benchmark
        for benchmark in run.benchmarks
        if (benchmark.group, benchmark.implementation, benchmark.metric) == (group, implementation, "wall")
    )


def _run(request: pytest.FixtureRequest) -> Run:
    """The run of everything selected, measured once in a session."""
    stash = request.config.stash
    if _RUN not in stash:
        from rich.console import Console

        from fuseproof.measure import runner
        from fuseproof.measure.progress import LineProgress
        from fuseproof.profiling.capture import stage
        from fuseproof.runs.directory import RunDirectory

        capture = request.config.pluginmanager.getplugin("capturemanager")
        try:
            directory = RunDirectory.create(_selected(request), None)
            with capture.global_and_fixture_disabled():
                stash[_RUN] = runner.run(directory, LineProgress(Console(stderr=True)), stage)
        except Exception as error:
            stash[_RUN] = error  # every test fails with it, instead of measuring all over again
    found = stash[_RUN]
    if isinstance(found, Exception):
        raise found
    return found


def _selected(request: pytest.FixtureRequest) -> Plan:
    """The plan without the cases and implementations that -k, -m or node ids left out."""
    import dataclasses

    from fuseproof.cases import join_implementation, split_implementation
    from fuseproof.measure.planning import with_baselines

    wanted: set[str] = {
        str(item.callspec.params[_FIXTURE])
        for item in request.session.items
        if isinstance(item, pytest.Function) and _FIXTURE in getattr(item, "fixturenames", ())
    }
    whole = _plan(request.config)
    chosen = {
        (implementation.workload, implementation.name)
        for case in whole.cases
        for implementation in whole.implementations
        if implementation.workload == case.workload.name
        and join_implementation(case.group, implementation.name) in wanted
    }
    groups = {split_implementation(pair)[0] for pair in wanted}
    return dataclasses.replace(
        whole,
        cases=tuple(case for case in whole.cases if case.group in groups),
        implementations=with_baselines(whole.implementations, chosen),
    )
