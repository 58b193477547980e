import math

import numpy as np
import pytest

from fuseproof.measure import checks
from fuseproof.workloads.operators import DTYPES, Sampled


def all_of(values):
    return Sampled(index=(slice(None),), values=np.asarray(values, dtype=np.float64))


@pytest.mark.parametrize(
    ("dtype", "exponent"), [("float32", -24), ("float16", -11), ("bfloat16", -8), ("float8_e4m3", -4)]
)
def test_unit_roundoff_is_half_the_gap_above_one(dtype, exponent):
    roundoff = checks.unit_roundoff(dtype)
    assert roundoff == 2.0**exponent
    one = np.ones((), DTYPES[dtype])
    assert (one + np.array(1.001 * roundoff)).astype(DTYPES[dtype]) > one
    assert (one + np.array(roundoff)).astype(DTYPES[dtype]) == one, "the tie goes to the even number, 1"


def test_rounding_is_one_store_and_a_random_walk():
    assert checks.rounding("float32", 1) == 2 * 2.0**-24
    assert checks.rounding("bfloat16", 4096) == 2.0**-8 + 64 * 2.0**-24


def test_the_error_is_relative_to_the_rms_of_the_reference():
    reference = all_of([3e-6, -4e-6])
    assert checks.relative_rms(np.float32([3e-6, -4e-6]), reference) < 1e-7
    assert checks.relative_rms(np.float32([3e-6, -8e-6]), reference) == pytest.approx(0.8, rel=1e-6)


def test_zeros_have_error_one_however_small_the_output():
    assert checks.relative_rms(np.zeros(3, np.float32), all_of([1e-12, 2e-12, -1e-12])) == 1


def test_a_reference_of_zeros_is_compared_absolutely():
    assert checks.relative_rms(np.float32([0, 0]), all_of([0, 0])) == 0
    assert checks.relative_rms(np.float32([3, 4]), all_of([0, 0])) == pytest.approx(math.sqrt(12.5))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_seen_outside_of_the_sample_too(value):
    result = np.ones(100, np.float32)
    result[50] = value
    first = Sampled(index=(np.array([0, 1]),), values=np.ones(2))
    assert math.isnan(checks.relative_rms(result, first))


def test_huge_values_are_an_error_and_no_warning():
    largest = np.full(4, np.finfo(np.float32).max)
    assert checks.relative_rms(largest, all_of(np.ones(4))) > 1e38


@pytest.mark.parametrize(
    ("error", "baseline", "passed"),
    [
        pytest.param(2.0e-3, 1e-3, True, id="twice the baseline's error"),
        pytest.param(2.0e-3 + 2.0**-8, 1e-3, True, id="and rounding"),
        pytest.param(2.1e-3 + 2.0**-8 + 2e-7, 1e-3, False, id="and no more"),
        pytest.param(2.0**-8, 0.0, True, id="exact baseline"),
        pytest.param(5e-2, 4e-2, True, id="bad baseline"),
        pytest.param(7e-2, 4e-2, False, id="never above the ceiling"),
        pytest.param(5e-2, None, True, id="no baseline, below the ceiling"),
        pytest.param(7e-2, None, False, id="no baseline, above the ceiling"),
        pytest.param(5e-2, math.nan, True, id="baseline is NaN, below the ceiling"),
        pytest.param(1.0, 1.0, False, id="zeros are not excused by zeros"),
        pytest.param(math.nan, math.nan, False, id="NaN is not excused by NaN"),
    ],
)
def test_the_limit(error, baseline, passed):
    verdict = checks.judge(
        {"output": error},
        None if baseline is None else {"output": baseline},
        dtype="bfloat16",
        longest=1,
    )
    assert verdict.passed is passed
    assert verdict.tensor == "output"
    assert verdict.limit <= checks.CEILINGS["bfloat16"]


def test_a_tensor_the_baseline_lacks_is_held_to_the_ceiling():
    verdict = checks.judge({"grad_x": 1e-5}, {"output": 0.0}, dtype="float32", longest=1)
    assert verdict.limit == checks.CEILINGS["float32"]


def test_few_elements_may_err_as_far_as_the_others_whatever_luck_the_baseline_has_with_them():
    baseline = {"loss": 0.0, "grad_w": 4e-7, "grad_b": 6e-7, "output": 5e-7, "parameters.w": 3e-8}
    sizes = {"loss": 1, "grad_w": 96, "grad_b": 16, "output": 54, "parameters.w": 96}
    limits = checks.limits(baseline, baseline, dtype="float32", longest=16, sizes=sizes)
    rounding = checks.rounding("float32", 16)
    assert limits["loss"] == pytest.approx(2 * 5e-7 + rounding), "the median of the others"
    assert limits["grad_b"] == pytest.approx(2 * 6e-7 + rounding)
    assert limits["parameters.w"] == pytest.approx(2 * 3e-8 + rounding)
    plain = checks.limits(baseline, baseline, dtype="float32", longest=16)
    assert plain["loss"] == pytest.approx(rounding)
    alone = checks.limits({"loss": 0.0}, {"loss": 0.0}, dtype="float32", longest=16, sizes=sizes)
    assert alone["loss"] == pytest.approx(rounding), "nothing to go by"


def test_the_verdict_is_that_of_the_worst_tensor():
    def worst(**errors):
        baseline = {"output": 1e-7, "grad_x": 1e-6}
        return checks.judge(errors, baseline, dtype="float32", longest=1)

    # Worst by share of its own limit, not by size.
    assert worst(output=2e-7, grad_x=5e-7).tensor == "output"
    assert worst(output=2e-7, grad_x=2e-6).tensor == "grad_x"
    nan = worst(output=1.0, grad_x=math.nan)
    assert (nan.tensor, nan.passed) == ("grad_x", False)
    assert "NaN" in nan.message
    assert "relative RMS error 1," in worst(output=1.0, grad_x=0.0).message


def test_every_dtype_has_a_ceiling_above_its_rounding():
    assert checks.CEILINGS.keys() == DTYPES.keys()
    for dtype, ceiling in checks.CEILINGS.items():
        assert checks.rounding(dtype, 4096) < ceiling < 1


def _cut(x):
    return (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def _rounded(x):
    return _cut(x + (x - _cut(x)))  # up when the 13 bits that go are half or more


@pytest.mark.parametrize(
    ("make", "passed"),
    [(_rounded, True), (_cut, True), (lambda x: x.astype(DTYPES["bfloat16"]).astype(np.float32), False)],
    ids=["rounded", "cut off", "bfloat16"],
)
def test_tf32_may_round_or_cut_but_not_drop_more_bits(make, passed):
    """Against a baseline that rounds its operands, as cuBLAS does; K = 1024."""
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal(shape, dtype=np.float32) for shape in ((64, 1024), (1024, 64)))
    exact = all_of(a.astype(np.float64) @ b.astype(np.float64))
    errors = [{"output": checks.relative_rms(convert(a) @ convert(b), exact)} for convert in (make, _rounded)]
    assert checks.judge(*errors, dtype="tf32", longest=1024).passed is passed
    assert checks.judge(errors[1], None, dtype="tf32", longest=1024).passed


def test_the_result_of_8_bit_floats_is_stored_in_bfloat16():
    assert checks.rounding("float8_e4m3", 1) == 2.0**-8 + 2.0**-24
