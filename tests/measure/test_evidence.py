"""Rules that no time passes by chance or is refused by chance: at their limits, in numbers."""

from __future__ import annotations

import math

import pytest

from fuseproof.measure import evidence
from fuseproof.measure.evidence import Ceilings, Evidence, reason_to_doubt

NOTHING = Ceilings()
MICRO = 1e-6


def seen(batch=100 * MICRO, *, probes=(), echoes=(), gap=0.0, leg=6e-3, copied=0.0, waited=0.0):
    """What was seen of an implementation: like legs, and probes that return at once when they are done."""
    return Evidence(
        calls=[batch] * 8,
        reported=[leg] * 8,
        observed=[leg + gap] * 8,
        waited=[waited] * 8,
        copied=copied,
        probes=[each if isinstance(each, tuple) else (each, each) for each in probes],
        echoes=[(each, each) for each in echoes],
    )


def doubt(own, baseline=None, ceilings=NOTHING, *, flops=0, bytes_=0):
    return reason_to_doubt(own, baseline, ceilings, flops=flops, bytes_=bytes_)


def test_nothing_seen_is_nothing_to_doubt():
    assert doubt(Evidence(), seen(), Ceilings(bytes=1.0, flops=1.0), flops=9, bytes_=9) is None


def test_what_is_like_its_baseline_is_believed():
    own = seen(probes=[105 * MICRO] * 3, gap=1e-4)
    assert doubt(own, own, Ceilings(bytes=1e10, flops=1e10), flops=1000, bytes_=1000) is None


@pytest.mark.parametrize(
    ("leg", "allowed"), [(6e-3, 1e-3), (1.0, 0.1)], ids=["a millisecond", "or a tenth of the leg"]
)
def test_a_leg_may_be_a_little_longer_by_the_runner_s_clock(leg, allowed):
    assert doubt(seen(gap=0.99 * allowed, leg=leg)) is None
    assert "by the clock of its process, but" in doubt(seen(gap=1.01 * allowed, leg=leg))
    slow = seen(gap=5e-3, leg=leg)
    assert doubt(seen(gap=5e-3 + 0.99 * allowed, leg=leg), slow) is None, "more where its baseline's are"
    assert doubt(seen(gap=5e-3 + 1.01 * allowed, leg=leg), slow) is not None
    early = seen(gap=-5e-3, leg=leg)
    assert doubt(seen(gap=0.99 * allowed, leg=leg), early) is None, "but never less"


def test_what_others_made_it_wait_explains_a_gap_and_allows_no_other_more():
    own = seen(gap=9e-3, waited=8.1e-3)
    assert doubt(own) is None
    assert doubt(seen(gap=9e-3, waited=7.9e-3)) is not None
    late = seen(gap=4e-3, waited=4e-3)
    assert doubt(seen(gap=4.9e-3), late) is None, "its baseline was as late"
    assert seen(gap=1e-3, waited=5e-3).unexplained == 0, "what it waited in its timed calls is in both clocks"


def test_copies_of_what_a_call_consumes_take_time_between_the_rounds():
    megabytes, ceilings = 50e6, Ceilings(bytes=10e9)  # read and written: 10 ms, and eight times that
    allowed = 80e-3 + 1e-3
    assert doubt(seen(gap=0.99 * allowed, copied=megabytes), None, ceilings) is None
    assert doubt(seen(gap=1.01 * allowed, copied=megabytes), None, ceilings) is not None
    assert doubt(seen(gap=9.0, copied=megabytes)) is None, "nobody knows how fast copies are here"


def test_a_leg_that_was_disturbed_accuses_nobody():
    legs = [6e-3 + 1e-6 * number for number in range(8)]
    observed = [9.0, 6.1e-3, 9.0, *[6.1e-3] * 5]
    own = Evidence(calls=[1e-4] * 8, reported=legs, observed=observed, waited=[0.0] * 8)
    assert doubt(own) is None
    own.observed[:] = [9.0] * 8
    assert doubt(own) is not None, "but most of them do"


def test_looks_clear_what_was_disturbed_and_not_what_was_said_to_be_faster():
    """An implementation may know that it is looked at again, and tell the truth then."""
    late = seen(gap=9e-3)
    assert doubt(late) is not None
    late.looks = seen(gap=0.0)
    assert doubt(late) is None
    lying = seen(50 * MICRO, gap=9e-3)
    lying.looks = seen(100 * MICRO, gap=0.0)
    assert doubt(lying) is not None, "it is slower when it is looked at"
    lying.looks = seen(50 * MICRO, gap=9e-3)
    assert doubt(lying) is not None


def test_lying_in_every_second_leg_is_seen():
    """The median over palindromes would take such a lie for the truth if it were in most of them."""
    said = [6e-3, 3e-3] * 4 + [3e-3]
    own = Evidence(calls=[1e-4] * 9, reported=said, observed=[6.1e-3] * 9, waited=[0.0] * 9)
    assert "by the clock of its process, but" in doubt(own)


def test_no_call_is_faster_than_twice_the_ceilings():
    ceilings = Ceilings(bytes=1e9, flops=1e10)
    flops, bytes_ = 1_000_000, 400_000  # 100 and 400 µs at the ceilings
    assert doubt(seen(50.1 * MICRO), None, ceilings, flops=flops) is None
    assert "50 µs at twice its measured ceilings" in doubt(seen(49.9 * MICRO), None, ceilings, flops=flops)
    assert doubt(seen(200.1 * MICRO), None, ceilings, flops=flops, bytes_=bytes_) is None
    assert doubt(seen(199.9 * MICRO), None, ceilings, flops=flops, bytes_=bytes_) is not None


def test_a_ceiling_that_was_not_measured_is_none():
    assert doubt(seen(MICRO), None, Ceilings(bytes=1e9), flops=10**15, bytes_=1000) is None
    assert doubt(seen(MICRO), None, NOTHING, flops=10**15, bytes_=10**15) is None


def test_a_call_with_new_values_may_cost_a_little_more_than_one_of_a_batch():
    baseline = seen(1e-3, probes=[1e-3] * 3)
    limit = 1.4 * 100 * MICRO + 15 * MICRO
    assert doubt(seen(probes=[0.99 * limit] * 3), baseline) is None
    says = doubt(seen(probes=[1.01 * limit] * 3), baseline)
    assert says.startswith("faster in a batch, 100 µs per call, than with values never seen, 157 µs")
    assert says.endswith("(its baseline: 1e+03 µs and 1e+03 µs)")


def test_what_a_single_call_of_the_baseline_costs_more_is_allowed():
    baseline = seen(1e-3, probes=[1.5e-3] * 3)
    assert doubt(seen(probes=[654 * MICRO] * 3), baseline) is None
    assert doubt(seen(probes=[656 * MICRO] * 3), baseline) is not None
    quick = seen(1e-3, probes=[0.5e-3] * 3)
    assert doubt(seen(probes=[154 * MICRO] * 3), quick) is None, "but nothing is taken away"


def test_a_short_call_may_cost_what_is_done_around_it():
    assert doubt(seen(6 * MICRO, probes=[48 * MICRO] * 3), seen(6 * MICRO, probes=[6 * MICRO] * 3)) is None
    assert (
        doubt(seen(6 * MICRO, probes=[49 * MICRO] * 3), seen(6 * MICRO, probes=[6 * MICRO] * 3)) is not None
    )


def test_where_a_single_call_of_the_baseline_takes_twice_as_long_others_may_too():
    """A busy machine: jax.eager took 33 µs in a batch and 68 alone, another 104 and 236."""
    assert (
        doubt(seen(104 * MICRO, probes=[236 * MICRO] * 3), seen(33 * MICRO, probes=[68 * MICRO] * 3)) is None
    )
    assert doubt(seen(104 * MICRO, probes=[280 * MICRO] * 3), seen(33 * MICRO, probes=[68 * MICRO] * 3))


def test_the_fastest_single_call_of_the_baseline_is_compared_with_its_fastest_batch():
    """Most legs of a busy machine are disturbed: the median says nothing of what a single call costs more."""
    baseline = seen(probes=[222 * MICRO] * 3)
    baseline.calls = [150 * MICRO, *[289 * MICRO] * 7]
    assert doubt(seen(probes=[226 * MICRO] * 3), baseline) is None
    assert "(its baseline: 150 µs and 222 µs)" in doubt(seen(probes=[228 * MICRO] * 3), baseline)


def test_ceilings_only_rise():
    found = Ceilings(bytes=2.0, flops=3.0).or_more(Ceilings(bytes=1.0, flops=4.0))
    assert found == Ceilings(bytes=2.0, flops=4.0)


def test_without_a_baseline_twice_the_batch_is_allowed():
    for baseline in (None, Evidence(), seen(probes=[1.0] * 2)):
        assert doubt(seen(probes=[249 * MICRO] * 3), baseline) is None
        assert doubt(seen(probes=[251 * MICRO] * 3), baseline) is not None


def test_a_single_call_that_is_as_slow_with_values_that_it_has_seen_does_no_more_work_for_new_ones():
    """A layer norm into a buffer, beside neighbours that empty the cache: 159 µs in a batch, 257 alone."""
    baseline = seen(116 * MICRO, probes=[124 * MICRO] * 3)
    alone = [257 * MICRO] * 3
    assert doubt(seen(159 * MICRO, probes=alone, echoes=[250 * MICRO] * 3), baseline) is None
    assert doubt(seen(159 * MICRO, probes=alone, echoes=[165 * MICRO] * 3), baseline) is not None
    assert doubt(seen(159 * MICRO, probes=alone, echoes=[250 * MICRO] * 2), baseline) is not None, "too few"


def test_whoever_is_slow_in_every_single_call_is_excused_for_twice_the_batch_at_most():
    quick = seen(probes=[100 * MICRO] * 3)
    slow = {"echoes": [1.0] * 3}
    assert doubt(seen(probes=[214 * MICRO] * 3, **slow), quick) is None
    assert doubt(seen(probes=[216 * MICRO] * 3, **slow), quick) is not None
    assert doubt(seen(1e-3, probes=[1614 * MICRO] * 3, **slow), quick) is None, "of a long call for less"
    assert doubt(seen(1e-3, probes=[1616 * MICRO] * 3, **slow), quick) is not None


def test_the_fastest_probe_counts():
    assert doubt(seen(probes=[1.0, 1.0, 100 * MICRO])) is None


def test_too_few_probes_are_no_judgement():
    assert doubt(seen(probes=[1.0] * 2)) is None
    assert doubt(seen(probes=[1.0] * 3)) is not None


def test_a_batch_may_wait_for_one_call_while_it_prepares_the_next():
    """A call that returns after 60 µs and is done after 140: in a batch 80 µs each, one after the other."""
    both = [(60 * MICRO, 140 * MICRO)] * 3
    baseline = seen(80 * MICRO, probes=both)
    assert doubt(seen(80 * MICRO, probes=both), baseline) is None
    assert seen(80 * MICRO, probes=both).probe == pytest.approx(80 * MICRO)
    assert doubt(seen(20 * MICRO, probes=both), baseline) is not None


def test_figures_for_the_run_file():
    assert Evidence().to_json() == {"outputs": 0, "worst": 0.0, "compiled": 0}
    found = seen(gap=1e-3, probes=[1e-4] * 3).to_json()
    assert found.keys() == {
        "outputs", "worst", "compiled", "batch", "gap", "unexplained", "probe", "echo", "looks"
    }  # fmt: skip
    assert (found["batch"], found["probe"], found["echo"]) == (pytest.approx(1e-4), pytest.approx(1e-4), None)
    assert found["gap"] == pytest.approx(1e-3)
    assert seen().to_json()["probe"] is None


@pytest.mark.parametrize(
    ("values", "count", "are"),
    [
        ([1.0, 2], 2, True),
        ([], 0, True),
        ([1e-9], 1, True),
        ([1.0], 2, False),
        ((1.0,), 1, False),
        ([0.0], 1, False),
        ([-1.0], 1, False),
        ([math.nan], 1, False),
        ([math.inf], 1, False),
        ([10**400], 1, False),
        ([True], 1, False),
        (["1"], 1, False),
        ([[1.0]], 1, False),
        (None, 0, False),
        ({}, 0, False),
    ],
    ids=str,
)
def test_seconds_are_positive_numbers(values, count, are):
    assert evidence.are_seconds(values, count) is are
