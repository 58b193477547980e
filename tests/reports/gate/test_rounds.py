"""The gate on rounds: drift cancels; where a control fires or a canary is missed, nothing is believed."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fuseproof.reports import gate


@pytest.fixture(scope="session")
def measured(a_run, a_benchmark):
    """Base, head and base again over rounds whose machine drifts, with noise between processes."""

    def build(slowdowns, *, seed=0, rounds=8, noise=0.01, drift=0.1, null=1.0):
        rng = np.random.default_rng(seed)
        machine = np.exp(drift * np.cumsum(rng.standard_normal(rounds)))

        def run(factors):
            return a_run(
                [
                    a_benchmark(
                        case=f"matmul[{n}x8-float32-forward]",
                        seconds=1e-3 * factor,
                        legs=2,
                        blocks=rounds,
                        process_noise=noise,
                        round_noise=1e-4,
                        rng=rng,
                    )
                    for n, factor in enumerate(factors)
                ]
            )

        def drifting(side):
            return replace(
                side,
                benchmarks=tuple(replace(b, seconds=b.seconds * machine[b.block]) for b in side.benchmarks),
            )

        ones = [1.0] * len(slowdowns)
        return [drifting(run(each)) for each in (ones, slowdowns, [null] * len(slowdowns))]

    return build


def judged(base, head, null, **more):
    return gate.compare(base, head, null=null, anchored=False, **more)


def test_drift_of_the_machine_cancels(measured):
    base, head, null = measured([1.0, 1.08])
    assert gate.compare(base, head, anchored=False).verdict == "inconclusive"
    result = judged(base, head, null)
    assert [row.verdict for row in result.rows] == ["regression", "pass"]
    assert result.rows[0].slowdown == pytest.approx(1.08, abs=0.02)
    assert (result.null.rows, result.canary.rows, result.canary.missed) == (2, 2, ())


@pytest.mark.parametrize("null", [1.08, 0.92])
@pytest.mark.parametrize("slowdown", [1.0, 1.08])
def test_a_null_control_that_fires_leaves_nothing_to_believe(measured, null, slowdown):
    result = judged(*measured([slowdown], null=null))
    assert (result.verdict, result.rows[0].verdict) == ("inconclusive", "inconclusive")
    assert "its null control fired" in result.rows[0].reason
    assert result.null.alarms


def test_where_the_canary_is_missed_nothing_passes(measured):
    result = judged(*measured([1.0], noise=0.08, rounds=5))
    assert result.canary.missed
    assert result.verdict == "inconclusive"


def test_text_and_json_say_what_the_canary_found(measured):
    result = judged(*measured([1.0] * 3))
    assert result.to_json()["canary"]["rows"] == 3
    assert "Canary: 10% added to base, found of 3 of 3 benchmarks" in gate.render_text(result)


def test_only_the_second_measurement_of_a_suspect_counts(measured):
    first = judged(*measured([1.08, 1.0]))
    assert first.verdict == "regression"
    for slowdown, verdict in ((1.0, "pass"), (1.08, "regression")):
        base, head, null = measured([slowdown], seed=1)
        result = gate.confirmed(first, judged(base, head, null))
        assert result.verdict == verdict
        (row,) = [each for each in result.rows if each.name == base.benchmarks[0].name]
        assert row.reason.startswith("first +8")
        assert len(result.rows) == 2


def test_false_alarms_of_both_stages_and_power(measured):
    """Gates over 5 benchmarks with 1 % of noise, 8 rounds in each stage."""

    def gated(slowdown, seed):
        first = judged(*measured([slowdown] + [1.0] * 4, seed=seed))
        if first.verdict != "regression":
            return first.verdict
        again = judged(*measured([slowdown] + [1.0] * 4, seed=10_000 + seed))
        return gate.confirmed(first, again).verdict

    alarms = sum(gated(1.0, seed) == "regression" for seed in range(60))
    assert stats.binomtest(alarms, 60, 0.025, alternative="greater").pvalue > 0.01
    assert sum(gated(1.06, seed) == "regression" for seed in range(30)) >= 26
