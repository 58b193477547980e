"""Anchors: what the machine does to code that did not change cancels from what stood beside it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fuseproof.implementations.sources import digest
from fuseproof.reports import gate

SAME_CODE = {"fuseproof": "1f2e", "layer_norm mine": "old"}


@pytest.fixture(scope="session")
def measured(a_run, a_benchmark):
    """A baseline and a row of a user, on a machine so much slower, with noise that both share."""

    def build(seed, *, mine=1.0, machine=1.0, sources=SAME_CODE, noise=0.1):
        rng = np.random.default_rng(seed)
        shared = np.repeat(np.exp(noise * rng.standard_normal(5)), 20 * 3)
        rows = [
            a_benchmark(name, seconds=seconds, round_noise=0.01, process_noise=0.005, rng=rng)
            for name, seconds in (("torch.eager", 2e-3), ("mine", 1e-3 * mine))
        ]
        run = a_run([replace(row, seconds=row.seconds * shared * machine) for row in rows])
        return replace(run, environment={"sources": sources})

    return build


def verdicts(result):
    return {row.name.split("-")[3]: row.verdict for row in result.rows}


def test_a_slower_machine_is_no_regression(measured):
    base, head = measured(0), measured(1, machine=1.5)
    assert gate.compare(base, head, anchored=False).verdict == "regression"
    result = gate.compare(base, head)
    assert (result.verdict, verdicts(result)) == ("pass", {"torch.eager": "anchor", "mine": "pass"})
    (anchor,) = [row for row in result.rows if row.verdict == "anchor"]
    assert "the machine changed its time by +" in anchor.reason
    assert anchor.slowdown == pytest.approx(1.5, rel=0.3)


def test_a_slower_kernel_is_found_where_times_themselves_say_nothing(measured):
    base, head = measured(0), measured(1, mine=1.1, sources=SAME_CODE | {"layer_norm mine": "new"})
    assert gate.compare(base, head, anchored=False).verdict == "inconclusive"
    result = gate.compare(base, head)
    assert verdicts(result) == {"torch.eager": "anchor", "mine": "regression"}
    assert result.rows[0].slowdown == pytest.approx(1.1, abs=0.02)


@pytest.mark.parametrize(
    "sources",
    [
        SAME_CODE | {"fuseproof": "other"},  # the baseline's code changed
        SAME_CODE | {"layer_norm torch.eager": "mine"},  # it was another's there
        {"fuseproof": digest({})},  # that of no file
        {},
        None,
    ],
)
def test_code_that_changed_or_is_unknown_is_no_anchor(measured, sources):
    before = sources if sources == {"fuseproof": digest({})} else SAME_CODE
    result = gate.compare(measured(0, sources=before), measured(1, machine=1.5, sources=sources))
    assert "anchor" not in verdicts(result).values()
    assert result.verdict == "regression"


def test_without_anybody_beside_it_an_anchor_is_compared_itself(measured):
    base, head = (
        replace(run, benchmarks=run.benchmarks[:1]) for run in (measured(0), measured(1, machine=2))
    )
    assert verdicts(gate.compare(base, head)) == {"torch.eager": "regression"}


def test_the_null_control_is_beside_the_same_anchor_or_none(measured):
    """Base and base again are the same code even where head's baseline is not."""
    changed = SAME_CODE | {"fuseproof": "other"}
    quiet = {"noise": 0.001}
    base, head, null = measured(0, **quiet), measured(1, sources=changed, **quiet), measured(2, **quiet)
    result = gate.compare(base, head, null=null)
    assert (result.null.alarms, verdicts(result)) == ((), {"torch.eager": "pass", "mine": "pass"})


def test_an_anchor_is_no_suspect(measured):
    result = gate.compare(measured(0, noise=0.001), measured(1, noise=0.001, machine=1.5))
    assert (result.verdict, result.suspects, result.remeasure_command) == ("pass", (), None)


def test_a_baseline_that_failed_in_head_is_no_anchor(measured):
    base, head = measured(0), measured(1)
    result = gate.compare(base, replace(head, benchmarks=head.benchmarks[1:]))
    assert verdicts(result)["torch.eager"] == "missing"
    assert "anchor" not in verdicts(result).values()


def test_false_alarms_and_power_beside_an_anchor(measured):
    """Machines that differ by 20 % between runs, 10 % between blocks; the paired noise is 1 %."""
    rng = np.random.default_rng(7)
    alarms = found = 0
    for n in range(100):
        head = {"seed": 1000 + n, "machine": float(np.exp(0.2 * rng.standard_normal()))}
        alarms += gate.compare(measured(n), measured(**head)).verdict == "regression"
        found += gate.compare(measured(n), measured(**head, mine=1.06)).verdict == "regression"
    assert stats.binomtest(alarms, 100, 0.025, alternative="greater").pvalue > 0.01
    assert found >= 90
