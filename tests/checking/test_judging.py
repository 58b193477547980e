"""When is a tensor right: the project's rule, single elements, NaN, few elements, gradients that cancel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseproof.checking.judging import Expected
from fuseproof.measure import checks
from fuseproof.workloads.workload import Sampled, whole

DRAWN = np.random.default_rng(0).standard_normal((64, 128))


def expected(exact, baseline=None, *, dtype="float32", name="output", others=()):
    return Expected.of(
        {name: exact if isinstance(exact, Sampled) else whole(exact)},
        {name: exact.shape if isinstance(exact, np.ndarray) else (64, 128)},
        {} if baseline is None else {name: baseline},
        dtype=dtype,
        longest=128,
        dtypes={},
        others=others,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "tf32"])
@given(factor=st.floats(0.9, 1.1), relative=st.floats(1e-9, 1e-5))
@settings(max_examples=50)
def test_the_limit_is_that_of_the_project(dtype, factor, relative):
    """Errors spread over all elements: the same verdict as a run's."""
    baseline = DRAWN * (1 + relative)
    exact = expected(DRAWN, baseline, dtype=dtype)
    limit = checks.limits(["output"], {"output": relative}, dtype=dtype, longest=128)["output"]
    assert exact.limits["output"] == pytest.approx(limit, rel=1e-6)
    error = factor * limit
    assert (exact.judge("output", DRAWN * (1 + error)) is None) == (error <= exact.limits["output"])


def test_without_a_baseline_the_limit_is_the_ceiling_and_the_message_says_so():
    exact = expected(DRAWN)
    assert exact.limits["output"] == checks.CEILINGS["float32"]
    assert exact.judge("output", DRAWN * (1 + 1e-5)) is None
    fault = exact.judge("output", DRAWN * (1 + 1e-4))
    assert "relative RMS error 0.0001, limit 3e-05 (no baseline); at [" in fault.message


@given(
    place=st.tuples(st.integers(0, 63), st.integers(0, 127)), dtype=st.sampled_from(["float32", "bfloat16"])
)
def test_one_element_is_found_where_it_is(place, dtype):
    result = DRAWN.copy()
    result[place] += 0.5
    fault = expected(DRAWN, DRAWN, dtype=dtype).judge("output", result)
    assert fault.index == place
    assert (fault.got, fault.expected) == (result[place], DRAWN[place])


def test_not_finite_is_wrong_unless_the_reference_or_the_baseline_is():
    result = DRAWN.copy()
    result[3, 5] = np.inf
    fault = expected(DRAWN, DRAWN).judge("output", result)
    assert (fault.kind, fault.index, int(fault.bad.sum())) == ("nan", (3, 5), 1)
    assert expected(DRAWN, result).judge("output", result) is None
    assert expected(result, result).judge("output", result) is None
    assert expected(result, result).judge("output", -result) is not None
    assert expected(result, result).judge("output", DRAWN).kind == "nan", "finite where infinity is right"
    hidden = np.where(np.isfinite(result), result, np.nan)
    assert expected(hidden, hidden).judge("output", hidden) is None


def test_sampled_elements_are_named_by_their_place_in_the_tensor():
    rows, columns = np.array([1, 40]), np.array([100, 7])
    sampled = Sampled(index=(rows, columns), values=DRAWN[rows, columns])
    result = DRAWN.copy()
    assert expected(sampled).judge("output", result) is None
    result[40, 7] += 1
    assert expected(sampled).judge("output", result).index == (40, 7)


def test_a_shape_is_compared_first():
    assert "has shape (64, 127) instead of (64, 128)" in expected(DRAWN).judge("output", DRAWN[:, 1:]).message


@pytest.mark.parametrize("exact", [np.zeros((0, 3)), np.full((2, 2), np.nan)])
def test_a_tensor_without_a_finite_element_has_nothing_to_be_wrong(exact):
    assert expected(exact, exact).judge("output", exact) is None
    assert expected(exact, exact).error("output", exact) == 0


def test_few_elements_have_the_error_of_several_draws():
    """A baseline that is right by chance in its one element sets no limit of zero."""
    exact = np.array([1.0])
    alone = expected(exact, exact, dtype="bfloat16")
    roundoff = checks.unit_roundoff("bfloat16")
    assert alone.limits["output"] >= 2 * roundoff
    others = [({"output": whole(exact)}, {"output": exact * (1 + 3 * roundoff)})] * 4
    pooled = expected(exact, exact, dtype="bfloat16", others=others)
    assert pooled.limits["output"] == pytest.approx(2 * roundoff * 3 * np.sqrt(4 / 5) + roundoff, rel=0.05)


def test_a_baseline_above_its_ceiling_sets_the_limit_unless_it_is_broken():
    inaccurate, broken = expected(DRAWN, DRAWN * 1.01), expected(DRAWN, np.zeros_like(DRAWN))
    assert inaccurate.limits["output"] == pytest.approx(0.02)
    assert inaccurate.notes == ("the baseline's own error of output is 0.01; the limit is 0.02",)
    assert broken.limits["output"] == checks.CEILINGS["float32"] and broken.notes == ()


def test_a_gradient_that_cancels_is_compared_on_the_scale_of_its_terms():
    rounding = 1e-7 * DRAWN
    assert expected(1e-16 * DRAWN, name="grad_bias").judge("grad_bias", rounding) is None
    assert expected(1e-16 * DRAWN, name="output").judge("output", rounding) is not None
    assert expected(DRAWN, name="grad_bias").judge("grad_bias", 0 * DRAWN) is not None
    assert expected(1e-16 * DRAWN, name="grad_bias").judge("grad_bias", DRAWN) is not None
