"""Nested arguments and results as flat names."""

import json

import numpy as np
import pytest

from fuseproof.workloads import trees

A, B, C = np.ones(2), np.zeros((3, 1)), np.arange(4)
TREE = {"block": {"weight": A, "parts": (B, [C, True])}, "rate": 0.5, "none": None}


def test_tensors_have_the_names_of_their_places():
    assert list(trees.flatten(TREE)) == ["block.weight", "block.parts.0", "block.parts.1.0"]
    assert trees.flatten({}) == {}


def test_a_skeleton_is_plain_data_and_is_filled_with_other_tensors():
    nesting = {name: trees.skeleton(value, name) for name, value in TREE.items()}
    nesting = json.loads(json.dumps(nesting))
    leaves = dict(zip(trees.flatten(TREE), "xyz", strict=True))
    filled = {name: trees.fill(each, leaves) for name, each in nesting.items()}
    assert filled == {"block": {"weight": "x", "parts": ("y", ["z", True])}, "rate": 0.5, "none": None}
    assert [name for each in nesting.values() for name in trees.names(each)] == list(leaves)
    with pytest.raises(KeyError, match=r"block\.weight"):
        trees.fill(nesting["block"], {})


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (A, ["output"]),
        ((A, B), ["output_0", "output_1"]),
        ([A, {"state": B}], ["output_0", "output_1.state"]),
        ({"loss": A, "state": {"mean": B}, "none": None}, ["loss", "state.mean"]),
        ((A, None), ["output_0"]),
    ],
)
def test_results_are_named_by_what_a_call_returns(raw, names):
    assert list(trees.results(raw)) == names


def test_what_is_no_tensor_stays_to_be_refused():
    assert trees.results(None) == {"output": None}
    assert trees.results({"loss": "text"}) == {"loss": "text"}
