"""Values that two processes make from the same two numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseproof.cases import Case
from fuseproof.measure.values import COTANGENT, Values
from fuseproof.workloads.described import Described
from fuseproof.workloads.modules import Module, State
from fuseproof.workloads.operators import DTYPES, Operator, result_dtype
from fuseproof.workloads.operators.base import round_to
from fuseproof.workloads.tensor import Tensor

GROUPS = (
    "layer_norm[7x13_residual-bfloat16-forward_backward]",
    "matmul[5x3x7-float16-forward]",
    "matmul[48x64x32-float8_e4m3-forward]",
    "attention[b2_h4_kv2_s5_k7_d3-float32-forward_backward]",
)
number = st.integers(0, 2**62 - 1)


def values(group, seed):
    return Values(Case.from_group(group), seed)


@given(group=st.sampled_from(GROUPS), seed=number, draw=number)
def test_worker_and_referee_make_the_same_arrays_from_the_same_two_numbers(group, seed, draw):
    one, other = values(group, seed), values(group, seed)
    (ours, cotangents), (theirs, same) = one.arrays(draw), other.arrays(draw)
    assert ours.keys() == theirs.keys() == Case.from_group(group).workload.input_shapes.keys()
    for name, array in ours.items():
        assert array.tobytes() == theirs[name].tobytes()
        assert array.shape == Case.from_group(group).workload.input_shapes[name]
    if "backward" in group:
        assert cotangents["output"].tobytes() == same["output"].tobytes()
        assert cotangents["output"].shape == Case.from_group(group).workload.output_shape
    else:
        assert cotangents == same == {}


@pytest.mark.parametrize("group", GROUPS)
def test_another_draw_gives_other_values_and_so_does_another_seed(group):
    one = values(group, 0)
    drawn = [one.arrays(draw)[0] for draw in range(20)] + [values(group, 1).arrays(0)[0]]
    for name in one.arrays(0)[0]:
        assert len({arrays[name].tobytes() for arrays in drawn}) >= 20, "of 21, few are the same by chance"


@pytest.mark.parametrize("group", GROUPS)
def test_the_dtype_holds_every_value(group):
    case = Case.from_group(group)
    made = values(group, 3)
    for name, pool in made.pools.items():
        dtype = result_dtype(case.dtype) if name == COTANGENT else case.dtype
        assert pool.dtype == np.float32
        assert np.array_equal(round_to(pool, dtype), pool)
        assert np.array_equal(pool.astype(DTYPES[dtype]).astype(np.float32), pool)


def test_values_are_those_that_the_operator_draws():
    case = Case.from_group("layer_norm[64x1024-float32-forward]")
    arrays, _ = Values(case, 0).arrays(5)
    usual = case.workload.inputs(0, "float32")
    for name, array in arrays.items():
        assert array.mean() == pytest.approx(usual[name].mean(), abs=0.1)
        assert array.std() == pytest.approx(usual[name].std(), rel=0.1)


def test_windows_begin_anywhere_in_a_pool_and_end_within():
    made = values(GROUPS[0], 0)
    drawn = [made.windows(draw) for draw in range(300)]
    offsets = [{name: window.offset for name, window in each.items()} for each in drawn]
    for name, pool in made.pools.items():
        last = pool.size - made.tensors[name].size
        found = [each[name] for each in offsets]
        assert min(found) < last / 8 and max(found) > last * 7 / 8 and max(found) <= last
        assert last >= 4096, "as many tensors can be drawn"
    assert any(each["x"] != each["weight"] for each in offsets), "each has its own"


class Sorted(Operator):
    """Values that depend on their place: sorted indices, and a table that they look up."""

    count: int

    def draw_inputs(self, rng):
        table = rng.standard_normal((3, self.count))
        return {"where": np.sort(rng.integers(0, 3, self.count)), "of": {"table": table, "scale": 2.0}}

    def forward(self, where, of):
        return of["scale"] * of["table"][where, np.arange(self.count)]


def test_values_that_depend_on_their_place_are_all_drawn_anew():
    case = Case(workload=Sorted(count=50), dtype="bfloat16", pass_="forward_backward")
    one, other = Values(case, 3), Values(case, 3)
    for draw in (1, 2, 1):
        inputs, cotangents = one.arrays(draw)
        assert list(inputs) == ["where", "of.table"] and list(cotangents) == ["output"]
        assert inputs["where"].dtype == np.int64 and (np.diff(inputs["where"]) >= 0).all()
        assert np.array_equal(inputs["of.table"], round_to(inputs["of.table"], "bfloat16"))
        assert inputs["of.table"].tobytes() == other.arrays(draw)[0]["of.table"].tobytes()
    assert one.arrays(1)[0]["of.table"].tobytes() != one.arrays(2)[0]["of.table"].tobytes()
    assert one.arrays(1)[0]["of.table"].tobytes() != Values(case, 4).arrays(1)[0]["of.table"].tobytes()


def test_inputs_that_change_their_shape_from_draw_to_draw_are_refused():
    class Growing(Operator):
        def draw_inputs(self, rng):
            return {"x": np.zeros(1 + rng.integers(10**6))}

        def forward(self, x):
            return x

    with pytest.raises(ValueError, match="other shapes or names from draw to draw"):
        Values(Case(workload=Growing()), 0).arrays(1)


class Net(Module):
    rows: int

    def draw_inputs(self, rng):
        return {"x": rng.standard_normal((self.rows, 3))}


def of_a_module(pass_, seed):
    source = Net(rows=4)
    state = State.of({"w": np.eye(3), "b": np.zeros(3)}, {}, {"name": "sgd", "learning_rate": 0.1})
    workload = Described.describe(
        source,
        "m:Net",
        outputs={"output": Tensor(shape=(4, 3))},
        reference={},
        reference_dtype="",
        state=state,
    ).with_source(source)
    return Values(Case(workload=workload, dtype="bfloat16", pass_=pass_), seed)


def test_in_inference_a_module_keeps_its_parameters_and_gets_new_inputs():
    """What is exported has its weights for good; the next block has another seed, and other weights."""
    one, same, other = (of_a_module("inference", seed) for seed in (1, 1, 2))
    (first, _), (second, _), (theirs, _), (elsewhere, _) = (
        *(one.arrays(draw) for draw in (5, 6)),
        same.arrays(5),
        other.arrays(5),
    )
    assert first.keys() == {"x", "parameters.w", "parameters.b"}
    for name in ("parameters.w", "parameters.b"):
        assert np.array_equal(first[name], second[name])
        assert np.array_equal(first[name], theirs[name])
        assert not np.array_equal(first[name], elsewhere[name])
        assert np.array_equal(round_to(first[name], "bfloat16"), first[name])
    assert not np.array_equal(first["x"], second["x"])
    assert np.array_equal(first["x"], theirs["x"])


def test_in_training_a_module_gets_new_parameters_too():
    one = of_a_module("training_step", 1)
    first, second = (one.arrays(draw)[0] for draw in (5, 6))
    assert all(not np.array_equal(first[name], second[name]) for name in first)
    assert first["parameters.w"].shape == (3, 3)
