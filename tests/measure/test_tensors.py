"""Arrays of a case as tensors, with NumPy for a framework."""

from __future__ import annotations

import numpy as np
import pytest
from support.numpy_framework import NumpyFramework

from fuseproof.cases import Case
from fuseproof.frameworks import WrongResultError
from fuseproof.measure import tensors
from fuseproof.measure.values import COTANGENT, Values
from fuseproof.workloads.operators import DTYPES

GROUPS = {
    "layer_norm[7x13-bfloat16-forward_backward]": "bhsd",
    "matmul[48x64x32-float8_e4m3-forward]": "bhsd",
    "attention[b2_h4_kv2_s5_k7_d3-float32-forward_backward]": "bshd",
}


@pytest.fixture(params=GROUPS)
def case(request):
    return Case.from_group(request.param)


@pytest.fixture
def layout(case):
    return GROUPS[case.group]


@pytest.fixture
def made(case, layout):
    """Values, pools and tensors with the values of draw 1."""
    framework = NumpyFramework()
    values = Values(case, 0)
    inputs, cotangents = tensors.to_device(framework, case, *values.arrays(1), layout)
    return values, tensors.Pools(framework, case, values), inputs, cotangents


def in_layout(array, layout):
    return array.transpose(0, 2, 1, 3) if layout == "bshd" else array


def expected(values, draw, layout):
    inputs, cotangents = values.arrays(draw)
    return {name: in_layout(array, layout) for name, array in together(inputs, cotangents).items()}


def together(inputs, cotangents):
    return {**inputs, **dict(zip((COTANGENT,), cotangents.values(), strict=False))}


def test_tensors_have_the_values_the_dtype_and_the_layout(made, case, layout):
    values, _, inputs, cotangents = made
    wanted = expected(values, 1, layout)
    for name, tensor in together(inputs, cotangents).items():
        assert tensor.dtype == DTYPES[case.dtype]
        assert np.array_equal(tensor.astype(np.float32), wanted[name])


def test_a_refill_writes_the_values_of_another_draw_into_the_same_memory(made, layout):
    values, pools, inputs, cotangents = made
    before = {name: tensor.ctypes.data for name, tensor in inputs.items()}
    refilled, other = pools.refill(inputs, cotangents, 2, layout)
    assert all(refilled[name] is inputs[name] for name in inputs)
    assert all(other[name] is cotangents[name] for name in cotangents)
    assert {name: tensor.ctypes.data for name, tensor in refilled.items()} == before
    given = together(refilled, other)
    for name, array in expected(values, 2, layout).items():
        assert np.array_equal(given[name].astype(np.float32), array)
    assert pools.changed(given, 2, layout) == []
    assert set(pools.changed(given, 1, layout)) == given.keys()


def test_one_changed_element_is_seen(made, layout):
    _, pools, inputs, cotangents = made
    given = together(inputs, cotangents)
    assert pools.changed(given, 1, layout) == []
    for name, tensor in given.items():
        last = tensor[(-1,) * tensor.ndim]
        tensor[(-1,) * tensor.ndim] = -last if last else tensor.dtype.type(1)
        assert pools.changed(given, 1, layout) == [name]
        tensor[(-1,) * tensor.ndim] = last


def test_8_bit_products_have_the_second_matrix_transposed_in_memory():
    """NVIDIA's read no other order; it stays so when new values are written."""
    case = Case.from_group("matmul[48x64x32-float8_e4m3-forward]")
    values = Values(case, 0)
    framework = NumpyFramework()
    inputs, _ = tensors.to_device(framework, case, *values.arrays(1), "bhsd")
    inputs, _ = tensors.Pools(framework, case, values).refill(inputs, {}, 2, "bhsd")
    assert inputs["a"].flags.c_contiguous and inputs["b"].flags.f_contiguous
    assert inputs["b"].shape == (64, 32)


def test_results_come_back_in_the_operator_s_own_layout():
    case = Case.from_group("attention[b2_h4_kv2_s5_k7_d3-float32-forward]")
    output = np.arange(2 * 5 * 4 * 3, dtype=np.float32).reshape(2, 5, 4, 3)
    found = tensors.to_arrays(NumpyFramework(), case, {"output": output}, "bshd")
    assert np.array_equal(found["output"], output.transpose(0, 2, 1, 3))
    with pytest.raises(WrongResultError, match=r"shape \(2, 5, 4, 3\) instead of \(2, 4, 5, 3\)"):
        tensors.to_arrays(NumpyFramework(), case, {"output": output}, "bhsd")


def test_the_result_of_8_bit_products_is_bfloat16():
    case = Case.from_group("matmul[48x64x32-float8_e4m3-forward]")
    right = np.zeros((48, 32), DTYPES["bfloat16"])
    assert tensors.to_arrays(NumpyFramework(), case, {"output": right}, "bhsd")["output"].dtype == np.float32
    with pytest.raises(WrongResultError, match="output is float32 instead of bfloat16"):
        tensors.refuse_other(NumpyFramework(), case, {"output": right.astype(np.float32)}, "bhsd")
