"""Shapes at block edges and tensors in every layout: what is drawn, and that failures shrink."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import fuseproof
from fuseproof import strategies
from fuseproof.errors import UserError

QUICK = settings(max_examples=400, database=None, phases=(Phase.generate, Phase.shrink))


def test_extents_are_ones_primes_powers_of_two_and_the_edges_of_blocks():
    found = strategies.candidate_extents([48], 200)
    assert {1, 2, 3, 7, 31, 127} <= {*found}, "primes"
    assert {4, 8, 16, 32, 64, 128} <= {*found}, "powers of two"
    assert {47, 48, 49, 95, 96, 97, 143, 144, 145, 191, 192, 193} <= {*found}, "edges"
    assert found == sorted(set(found)) and max(found) <= 200


@given(block=st.integers(1, 300), largest=st.integers(1, 2000))
def test_every_extent_is_within_its_bounds(block, largest):
    found = strategies.candidate_extents([block], largest)
    assert found[0] == 1 and found[-1] <= largest


@pytest.mark.parametrize(
    ("fails", "smallest"),
    [
        (lambda shape: shape[1] > 128 and shape[1] % 128 == 1, (1, 129)),
        (lambda shape: shape[0] % 64 == 63 and shape[1] % 128 == 127, (63, 127)),
        (lambda shape: shape[0] == 1 and shape[1] > 1, (1, 2)),
        (lambda shape: shape[0] > 64 and shape[1] > 128, (65, 129)),
    ],
)
def test_a_failure_shrinks_to_the_smallest_shape(fails, smallest):
    assert find(strategies.shapes(64, 128), fails, settings=settings(QUICK, max_examples=3000)) == smallest


def test_a_kernel_that_is_wrong_at_a_block_edge_is_found_and_shrunk():
    def rows_in_blocks(x, block=128):
        """Adds up rows block by block, and the first element of a last block twice."""
        out = np.zeros(x.shape[0], x.dtype)
        for start in range(0, x.shape[1], block):
            out += x[:, start : start + block].sum(-1)
        if x.shape[1] > block and x.shape[1] % block:
            out += x[:, x.shape[1] - x.shape[1] % block]
        return out

    seen = []

    @settings(QUICK, max_examples=100)
    @given(x=strategies.arrays(strategies.shapes(4, 128, largest=600)))
    def check(x):
        found = fuseproof.check(rows_in_blocks, inputs=x, reference=lambda x: x.sum(-1), skip=["memory"])
        if not found.ok:
            seen.append(x)
        found.raise_if_wrong()

    with pytest.raises(AssertionError, match="rows_in_blocks is wrong, with x float32"):
        check()
    assert seen[-1].shape == (1, 129)
    assert seen[-1].flags.c_contiguous


@settings(max_examples=150)
@given(
    shape=st.lists(st.integers(1, 6), min_size=0, max_size=4).map(tuple),
    layout=st.sampled_from(strategies.LAYOUTS),
)
def test_every_layout_has_values_where_elements_are_and_nan_in_its_gaps(shape, layout):
    if len(shape) < 2 and layout in ("padded", "transposed", "overlapping"):
        return
    memory, strides, start = strategies.laid_out(shape, layout, np.random.default_rng(0))
    own = [memory.itemsize * stride for stride in strides]
    tensor = np.ndarray(shape, memory.dtype, buffer=memory.data, offset=memory.itemsize * start, strides=own)
    assert np.isfinite(tensor).all()
    distinct = np.unique(tensor).size
    assert np.isfinite(memory).sum() == distinct, "nothing but its elements"
    if layout == "expanded" and shape:
        assert distinct == tensor.size / shape[0]
    elif layout != "overlapping":
        assert distinct == tensor.size


@pytest.mark.parametrize("layout", strategies.LAYOUTS)
def test_the_two_libraries_lay_out_alike(layout):
    torch = pytest.importorskip("torch", reason="pip install 'fuseproof[torch]'")
    array = find(strategies.arrays((3, 5), layouts=[layout]), lambda _: True)
    tensor = find(strategies.tensors((3, 5), layouts=[layout]), lambda _: True)
    assert np.array_equal(array, tensor.numpy())
    assert array.strides == tuple(4 * stride for stride in tensor.stride())
    assert tensor.dtype is torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: strategies.extents(0), "a block size is a whole number from 1, not 0"),
        (lambda: strategies.extents(8, largest=0), "largest is 0; an extent is at least 1"),
        (lambda: strategies.shapes(), "shapes needs an argument for each axis"),
        (
            lambda: strategies.arrays((3,), layouts=["diagonal"]),
            "unknown layout 'diagonal'; there are contiguous",
        ),
        (lambda: strategies.arrays((3,), dtype="int8"), "unknown dtype 'int8'; there are float32"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_without_hypothesis_one_line_says_what_to_install():
    code = """
import sys
sys.modules["hypothesis"] = None
import fuseproof
try:
    fuseproof.strategies.extents(128)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wanted = "UserError fuseproof.strategies needs Hypothesis: pip install 'fuseproof[hypothesis]'\n"
    assert done.stdout == wanted


def test_a_tensor_without_elements_has_one_layout_and_none_is_one_line():
    for layout in strategies.LAYOUTS:
        memory, strides, start = strategies.laid_out((3, 0), layout, np.random.default_rng(0))
        assert (len(strides), start) == (2, 0) and memory.size
    with pytest.raises(UserError, match="layouts is empty; there are"):
        strategies.arrays(strategies.shapes(2), layouts=())
