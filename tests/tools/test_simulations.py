"""A small version of the simulations: intervals cover and verdicts are right, within what chance allows."""

import math

import numpy as np
import pytest
import simulations
from scipy import stats

from fuseproof.runs import population

REPETITIONS = 300


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def by_chance(share, of=REPETITIONS):
    """The counts that a true share gives in all but one of a thousand tests."""
    fewest, most = stats.binom.ppf([0.0005, 0.9995], of, share)
    return range(int(fewest), int(most) + 1)


@pytest.mark.parametrize("drift", simulations.DRIFTS)
def test_the_interval_of_a_speedup_covers_the_true_one(rng, drift):
    held = 0
    for _ in range(REPETITIONS):
        low, high = simulations.statistics.speedup(
            *simulations.measured(rng, speedup=1.45, process=0.01, drift=drift)
        ).ci95
        held += low <= 1.45 <= high
    assert held in by_chance(0.95)


def test_a_steady_drift_is_in_the_samples_and_not_in_the_speedup(rng):
    baseline, candidate = simulations.measured(rng, speedup=1.0, process=0.0, drift="10 % over a block")
    logs = np.log(baseline.seconds).reshape(simulations.BLOCKS, -1)
    assert logs[:, -6:].mean() - logs[:, :6].mean() == pytest.approx(0.10, abs=0.02)
    low, high = simulations.statistics.speedup(baseline, candidate).ci95
    assert low < 1 < high


@pytest.mark.parametrize("drift", simulations.DRIFTS)
def test_drifts_are_as_large_as_they_say(rng, drift):
    added = simulations.DRIFTS[drift](rng, (4000, 40))
    assert added.shape == (4000, 40)
    if drift == "random walk, 1 % a leg":
        assert added[:, -1].std() == pytest.approx(0.01 * math.sqrt(40), rel=0.05)
    if drift == "bursts of 20 %":
        assert set(np.unique(added)) == {0.0, 0.2}
        assert 0.05 < (added > 0).mean() < 0.12


@pytest.mark.parametrize(
    ("truth", "spread", "throughput", "time_reduction"),
    [
        (1.10, 0.1, "refuted-low", "refuted-low"),
        (1.45, 0.1, None, None),
        (1.75, 0.1, "refuted-high", "supported"),
        (2.20, 0.1, "refuted-high", "supported"),
    ],
)
def test_verdicts_are_right_of_the_cases_that_were_measured(rng, truth, spread, throughput, time_reduction):
    repetitions = 100
    for rates, verdict in zip(
        simulations.judged(rng, repetitions, truth=truth, spread=spread),
        (throughput, time_reduction),
        strict=True,
    ):
        assert rates.counts["wrong: these cases"] <= stats.binom.ppf(0.999, repetitions, 0.025)
        if verdict:
            assert rates.share(verdict) > 0.85


def test_a_wrong_verdict_is_known_as_such():
    band = (1.3, 1.6)
    assert simulations.is_wrong("supported", 1.2, band) and simulations.is_wrong("mean-only", 1.7, band)
    assert simulations.is_wrong("refuted-low", 1.7, band) and simulations.is_wrong("refuted-high", 1.4, band)
    assert not simulations.is_wrong("supported", 1.4, band) and not simulations.is_wrong(
        "inconclusive", 9, band
    )
    assert not simulations.is_wrong("refuted-low", 1.2, band) and not simulations.is_wrong(
        "refuted-high", 2, band
    )


def test_typical_is_shown_as_often_as_the_binomial_says(rng):
    for rates in simulations.typical(rng, REPETITIONS):
        if rates.setting["alike"] == "0%" and rates.setting["bound of"] == "independent cases":
            cases = int(rates.setting["families"]) * int(rates.setting["cases of each"])
            for share in (0.5, 0.7, 0.9):
                expected = population.typical_power(cases, share)
                assert rates.counts[f"{share:.0%} inside"] in by_chance(expected)


def test_alike_cases_do_not_make_half_of_them_typical(rng):
    """Wilson's bound of independent cases says so of nine families in 9 % of 2,000; 2.5 % would be right."""
    for rates in simulations.typical(rng, REPETITIONS):
        if rates.setting["bound of"] == "families":
            assert rates.counts["50% inside"] <= stats.binom.ppf(0.9995, REPETITIONS, 0.035)


def test_cases_that_are_alike_spread_as_said(rng):
    drawn = simulations.levels(rng, (2000, 9, 4), mean=1.45, spread=0.2, alike=0.8)
    assert drawn.mean() == pytest.approx(math.log(1.45), abs=0.01)
    assert drawn.std() == pytest.approx(0.2, rel=0.03)
    assert drawn.mean(axis=2).var() == pytest.approx(0.2**2 * (0.8 + 0.2 / 4), rel=0.05)


def test_the_program_prints_a_table_for_each_name(capsys):
    assert simulations.main(["typical", "--repetitions", "20", "--seed", "3"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("## typical") and "20 repetitions, seed 3" in first
    assert first.count("\n| ") == 2 + 19
    simulations.main(["typical", "--repetitions", "20", "--seed", "3"])
    again = capsys.readouterr().out
    assert first[first.index("\n| ") :] == again[again.index("\n| ") :]


@pytest.mark.parametrize("arguments", [["nothing"], ["--repetitions", "0"], ["--seed", "-1"]])
def test_bad_input_is_one_line_and_2(arguments, capsys):
    assert simulations.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_intervals_of_counts_cover_the_mean_of_all_cases_like_these(rng):
    """Nine workloads and more, in 92 to 95 % of 2,000; fewer than that are too few to draw from."""
    for rates in simulations.counts(rng, 100):
        if int(rates.setting["families"]) >= 9:
            assert rates.counts["95 % interval"] >= stats.binom.ppf(0.0005, 100, 0.92)


def test_kernels_are_whole_and_fusion_adds_none(rng):
    before, after = simulations.kernels(rng, (500, 3), fused=0.6, alike=0.5)
    assert (before >= after).all() and (after >= 1).all() and (before == before.round()).all()
    assert 1.5 < np.exp(np.log(before / after).mean()) < 3
