"""The variance budget, against simulated palindromes whose variances are known."""

import math

import numpy as np
import pytest

from fuseproof.runs import variance
from fuseproof.runs.variance import Seconds


def simulated(*, case, block, rounds, cases=200, blocks=8, palindromes=20, seed=0):
    rng = np.random.default_rng(seed)
    return [
        [
            level + block * rng.standard_normal() + rounds * rng.standard_normal(palindromes)
            for _ in range(blocks)
        ]
        for level in case * rng.standard_normal(cases)
    ]


def test_the_parts_are_the_simulated_ones():
    found = variance.budget(simulated(case=0.2, block=0.02, rounds=0.05))
    assert found.from_cases == pytest.approx(0.2**2 / 200, rel=0.25)
    assert found.from_blocks == pytest.approx(0.02**2 / (200 * 8), rel=0.15)
    assert found.from_rounds == pytest.approx(math.pi / 2 * 0.05**2 / (200 * 8 * 20), rel=0.15)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.cases, found.blocks, found.palindromes) == (200, 8, 20)


def test_the_variance_is_that_of_the_mean_over_populations_drawn_anew():
    design = {"case": 0.05, "block": 0.05, "rounds": 0.3, "cases": 6, "blocks": 4, "palindromes": 8}
    means, expected = [], []
    for seed in range(400):
        drawn = simulated(**design, seed=seed)
        means.append(np.mean([[np.median(block) for block in case] for case in drawn]))
        expected.append(variance.budget(drawn).variance)
    assert np.mean(expected) == pytest.approx(np.var(means), rel=0.25)


@pytest.mark.parametrize(
    ("spread", "largest"),
    [
        ({"case": 0.3, "block": 0.01, "rounds": 0.01}, "cases"),
        ({"case": 0.0, "block": 0.3, "rounds": 0.01}, "blocks"),
        ({"case": 0.0, "block": 0.0, "rounds": 0.3}, "rounds"),
    ],
)
def test_the_largest_part_is_named(spread, largest):
    shares = variance.budget(simulated(**spread)).shares
    assert max(shares, key=shares.__getitem__) == largest
    assert min(shares.values()) >= 0


@pytest.mark.parametrize("extra", ["palindrome", "block", "case"])
def test_what_one_more_narrows_is_what_a_larger_design_has(extra):
    design = {"cases": 6, "blocks": 4, "palindromes": 8}
    spread = {"case": 0.05**2, "block": 0.05**2, "round": 0.3**2 * math.pi / 2}

    def standard_error(cases, blocks, palindromes):
        return math.sqrt(
            (spread["case"] + (spread["block"] + spread["round"] / palindromes) / blocks) / cases
        )

    parts = spread["round"] / (6 * 4 * 8), spread["block"] / (6 * 4), spread["case"] / 6
    found = variance.Budget(
        **design, from_rounds=parts[0], from_blocks=parts[1], from_cases=parts[2]
    ).narrowing()[extra]
    larger = {**design, f"{extra}s": design[f"{extra}s"] + 1}
    assert found == pytest.approx(1 - standard_error(**larger) / standard_error(**design))


def test_the_cheapest_narrowing_depends_on_what_each_takes():
    found = variance.budget(simulated(case=0.2, block=0.2, rounds=0.02, cases=8, blocks=4))
    cheap_blocks = found.per_second(Seconds(palindrome=1.0, block=1.0, case=1e4))
    cheap_cases = found.per_second(Seconds(palindrome=1.0, block=100.0, case=10.0))
    assert (next(iter(cheap_blocks)), next(iter(cheap_cases))) == ("block", "case")


def test_equal_samples_have_no_budget_to_spend():
    found = variance.budget([[np.zeros(4)] * 2] * 3)
    assert found.variance == 0
    assert found.narrowing() == {"palindrome": 0, "block": 0, "case": 0}


def test_unequal_numbers_of_blocks_are_taken_as_they_are():
    drawn = simulated(case=0.1, block=0.02, rounds=0.02)
    found = variance.budget([case[: 2 + n % 7] for n, case in enumerate(drawn)])
    assert found.blocks == pytest.approx(1 / np.mean([1 / (2 + n % 7) for n in range(200)]))
    assert found.from_cases == pytest.approx(0.1**2 / 200, rel=0.25)


@pytest.mark.parametrize(
    "cases", [[], [[np.zeros(3)] * 5], [[np.zeros(3)], [np.zeros(3)]], [[], [np.zeros(3)] * 2]]
)
def test_too_little_to_decompose_is_refused(cases):
    with pytest.raises(ValueError, match="two cases"):
        variance.budget(cases)
