"""A worker with NumPy for a framework."""

from __future__ import annotations

import sys

import pytest
from support.numpy_framework import GROUP, SEED, NumpyFramework

from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.measure import referee
from fuseproof.measure import worker as worker_module
from fuseproof.measure.worker import Worker


@pytest.fixture
def framework():
    return NumpyFramework()


@pytest.fixture
def worker(framework, monkeypatch):
    # A hook stays until the process ends, and this one has many workers.
    monkeypatch.setattr(sys, "addaudithook", lambda hook: None)
    return Worker(framework)


@pytest.fixture
def prepare(worker, monkeypatch):
    """Opens a case and prepares one function for it; returns the name to ask for."""

    loaded = []
    monkeypatch.setattr(worker_module, "resolve_function", lambda target: loaded[-1])

    def prepare(function, group=GROUP, layout="bhsd", name="mine", consumes=(), target="m:f", **case):
        loaded.append(function)
        worker.open_case(**({"group": group, "seed": SEED, "last_level_cache": 1} | case))
        operator = group.partition("[")[0]
        implementation = Implementation(
            operator, name, framework="torch", target=target, layout=layout, consumes=consumes
        )
        worker.prepare(implementation=implementation.to_json())
        return name

    return prepare


@pytest.fixture
def errors(worker, tmp_path):
    """Errors of the results that a check hands over, one mapping for each draw, by the referee."""

    def errors(name, group=GROUP, draws=(11, 12)):
        files = [str(tmp_path / f"{draw}.bin") for draw in draws]
        worker.check(name=name, draws=list(draws), files=files)
        judge = referee.Referee()
        judge.open_case(group=group, seed=SEED)
        return [
            judge.compare(draw=draw, file=file)["errors"] for draw, file in zip(draws, files, strict=True)
        ]

    return errors


@pytest.fixture
def inspect(worker, tmp_path):
    """Arms, times and inspects a leg; the results that were handed over, and what `inspect` found."""

    def inspect(name, group=GROUP, draw=21, rounds=2, calls=3, warm_up=1, probes=(31, 32)):
        worker.arm(name=name, draw=draw, rounds=rounds, calls=calls, warm_up=warm_up)
        worker.time()
        file, files = tmp_path / "kept.bin", [tmp_path / f"{draw}.bin" for draw in probes]
        found = worker.inspect(file=str(file), draws=list(probes), files=[str(each) for each in files])
        case = Case.from_group(group)
        probed = [referee.read_results(each, case)["output"] for each in files]
        return referee.read_results(file, case)["output"], probed, found["probes"]

    return inspect
