"""A speedup by the fast rounds, beside the same by their median and mean, on rounds whose truth is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fuseproof.runs import rounds, statistics

NOISE = {"process_noise": 0.005, "round_noise": 0.01}


def slow_sometimes(benchmark, *, calls, every=8, factor=4.0):
    """`benchmark` with one call of `every` slowed by `factor`, in rounds of `calls` calls each."""
    call = np.arange(len(benchmark.seconds) * calls).reshape(-1, calls)
    cost = np.where(call % every == every - 1, factor, 1.0).mean(axis=1)
    return replace(benchmark, seconds=benchmark.seconds * cost)


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_one_slow_call_of_eight_is_in_the_mean_and_doubted(a_benchmark, calls):
    rng = np.random.default_rng(calls)
    baseline, candidate = a_benchmark(**NOISE, rng=rng), a_benchmark("torch.compile", **NOISE, rng=rng)
    found = rounds.speedups(baseline, slow_sometimes(candidate, calls=calls))
    assert found.fast.value > 0.93  # the fast rounds hide it, wholly or nearly
    assert found.mean.value == pytest.approx(8 / 11, rel=0.02)  # 8 calls cost as much as 7 + 4
    assert "mean" in found.doubted
    assert "0.7" in found.doubt and "mean" in found.doubt
    other = rounds.speedups(slow_sometimes(baseline, calls=calls), candidate)
    assert other.mean.value == pytest.approx(11 / 8, rel=0.02)
    assert "mean" in other.doubted


def test_a_leg_of_one_round_does_not_hide_it_from_the_mean(a_benchmark):
    """A call that takes longer than a leg: median and fast rounds are then the same."""
    rng = np.random.default_rng(0)
    baseline, candidate = (a_benchmark(**NOISE, rounds=1, legs=40, rng=rng) for _ in range(2))
    found = rounds.speedups(baseline, slow_sometimes(candidate, calls=1))
    assert found.median == found.fast
    assert found.mean.value == pytest.approx(8 / 11, rel=0.02)
    assert found.doubted == ("mean",)


def test_what_every_round_contains_is_in_the_speedup_itself(a_benchmark):
    rng = np.random.default_rng(0)
    baseline, candidate = a_benchmark(**NOISE, rng=rng), a_benchmark("torch.compile", **NOISE, rng=rng)
    found = rounds.speedups(baseline, slow_sometimes(candidate, calls=8))
    for estimate in (found.fast, found.median, found.mean):
        assert estimate.value == pytest.approx(8 / 11, rel=0.02)
    assert found.doubted == () and found.doubt is None


def test_most_rounds_slow_is_in_the_median(a_benchmark):
    rng = np.random.default_rng(0)
    baseline, candidate = a_benchmark(**NOISE, rng=rng), a_benchmark("torch.compile", **NOISE, rng=rng)
    slow = replace(candidate, seconds=candidate.seconds * np.resize([1.0, 1.5, 1.5], len(candidate.seconds)))
    found = rounds.speedups(baseline, slow)
    assert found.median.value == pytest.approx(1 / 1.5, rel=0.02)
    assert found.doubted == ("median", "mean")


def test_the_fast_speedup_is_the_speedup(a_benchmark):
    rng = np.random.default_rng(1)
    pair = a_benchmark(**NOISE, seconds=2e-3, rng=rng), a_benchmark("torch.compile", **NOISE, rng=rng)
    found, speedup = rounds.speedups(*pair), statistics.speedup(*pair)
    assert (found.fast.value, found.fast.ci95) == (speedup.value, speedup.ci95)


def test_equal_code_on_a_disturbed_machine_is_seldom_doubted(a_benchmark):
    """One round of fifty takes up to ten times as long, in both: another program had the processor."""
    rng = np.random.default_rng(2)

    def disturbed():
        benchmark = a_benchmark(**NOISE, rng=rng)
        hit = rng.random(len(benchmark.seconds)) < 0.02
        return replace(benchmark, seconds=benchmark.seconds * np.where(hit, rng.uniform(1, 10, hit.size), 1))

    doubted = sum(bool(rounds.speedups(disturbed(), disturbed()).doubted) for _ in range(200))
    assert doubted <= stats.binom.ppf(0.999, 200, 0.10)  # two tests at 5 % each


def test_throughput_is_all_time_over_all_calls(a_benchmark):
    baseline, candidate = a_benchmark(blocks=1, legs=2, rounds=2), a_benchmark(blocks=1, legs=2, rounds=2)
    one, other = replace(baseline, seconds=np.array([1.0, 2, 3, 10])), replace(candidate, seconds=np.ones(4))
    assert rounds.throughput_log_ratios(one, other) == {0: pytest.approx(math.log(4))}


def test_a_leg_without_its_mirror_does_not_count(a_benchmark):
    seconds = np.array([2.0, 2, 2, 2, 50])
    columns = {"block": np.zeros(5, int), "leg": np.arange(5)}
    one = replace(a_benchmark(), seconds=seconds, **columns)
    other = replace(a_benchmark(), seconds=np.ones(5), **columns)
    assert rounds.throughput_log_ratios(one, other) == {0: pytest.approx(math.log(2))}


def test_one_block_has_no_interval_and_no_doubt(a_benchmark):
    one, other = a_benchmark(blocks=1), slow_sometimes(a_benchmark(blocks=1), calls=1)
    found = rounds.speedups(one, other)
    assert found.mean.value < 0.8 and found.doubted == ()


def test_what_cannot_be_compared_is_refused(a_benchmark):
    with pytest.raises(ValueError, match="metric"):
        rounds.speedups(a_benchmark(), a_benchmark(metric="device"))
    with pytest.raises(ValueError, match="in common"):
        rounds.speedups(a_benchmark(), replace(a_benchmark(), block=a_benchmark().block + 9))
