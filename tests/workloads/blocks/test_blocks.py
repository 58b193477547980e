"""Shapes, parameters and work of the blocks of networks."""

from __future__ import annotations

import numpy as np
import pytest

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.workloads.blocks import BLOCKS
from fuseproof.workloads.blocks.base import SCALES

NAMED = [(name, scale) for name, kind in BLOCKS.items() for scale in kind.named_shapes]


@pytest.mark.parametrize(("name", "scale"), NAMED)
def test_a_label_names_one_shape_at_every_scale(name, scale):
    block = BLOCKS[name].from_label(scale)
    assert BLOCKS[name].from_label(block.label) == block
    group = f"{name}[{block.label}-float32-{block.passes[-1]}]"
    assert Case.from_group(group).workload == block
    assert {word.partition("-")[0] for word in type(block).named_shapes} == set(SCALES)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_parameter_gets_a_gradient(name):
    block = BLOCKS[name].from_label("cpu")
    assert {f"parameters.{each}" for each in block.parameters} <= set(block.differentiable)
    assert not {*block.constants} & {*block.differentiable}
    assert block.arguments["parameters"]["dict"].keys() == block.parameters.keys()


def test_frozen_statistics_are_given_and_get_no_gradient():
    frozen, free = (BLOCKS["conv_residual"].from_label(label) for label in ("cpu-frozen", "cpu"))
    more = set(frozen.parameters) - set(free.parameters)
    assert more == {"first_mean", "first_variance", "second_mean", "second_variance"}
    assert frozen.differentiable == free.differentiable
    assert frozen.inputs(0, "float32")["parameters.first_variance"].min() > 0


@pytest.mark.parametrize("name", BLOCKS)
def test_the_same_seed_draws_the_same_parameters_of_about_the_size_that_keeps_variance(name):
    block = BLOCKS[name].from_label("cpu")
    first, same, other = (block.inputs(seed, "float32") for seed in (1, 1, 2))
    for parameter in block.parameters:
        drawn = first[f"parameters.{parameter}"]
        assert np.array_equal(drawn, same[f"parameters.{parameter}"])
        assert not np.array_equal(drawn, other[f"parameters.{parameter}"])
        if parameter.endswith("_scale"):
            assert drawn.mean() == pytest.approx(1, abs=0.1), parameter
        elif not parameter.endswith("_bias") and drawn.size > 1000:
            assert drawn.std() * np.sqrt(block.fan_in(parameter)) == pytest.approx(1, rel=0.1), parameter


@pytest.mark.parametrize(
    ("name", "label", "reason"),
    [
        ("encoder_block", "2x7x15x2", "2 heads do not share a width of 15 equally"),
        ("decoder_block", "2x7x16x4x3x24", "4 heads do not share 3 of keys and values equally"),
        ("decode", "2x7x12x4x2x24", "a head dim of 3 has no halves; make it even"),
        ("unet_block", "1x8x20", "channels must be a multiple of 16"),
        ("unet_block", "1x7x16", "the size even"),
        ("encoder_block", "2x7x16x0", "every extent must be at least 1"),
        ("lstm", "2x7", "unknown lstm shape '2x7'; write it like 8x32x128"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(name, label, reason):
    with pytest.raises(UserError, match=reason):
        BLOCKS[name].from_label(label)


def test_decoding_has_no_backward_pass():
    with pytest.raises(UserError, match="decode has no forward_backward pass"):
        Case.from_group("decode[2x3x16x4x2x24-float32-forward_backward]")


@pytest.mark.parametrize(
    ("name", "label", "multiply_adds"),
    [
        ("mlp_block", "3x4x8", 3 * 4 * 8 * 2),
        ("encoder_block", "1x2x4x1", 2 * (4 * 12 + 4 * 4 + 4 * 16 + 16 * 4) + 2 * 2 * 2 * 4),
        ("conv_residual", "1x2x3", 2 * 4 * 9 * 3 * 3),
        ("lstm", "2x3x4", 2 * 2 * 3 * (4 * 16 + 16 * 4)),
        ("dlrm", "1x2x5x3", 13 * 12 + 12 * 3 + 3 * 3 + (3 + 3) * 12 + 12),
    ],
)
def test_work_is_counted_by_the_textbook(name, label, multiply_adds):
    block = BLOCKS[name].from_label(label)
    assert block.flops("forward") == 2 * multiply_adds
    if "forward_backward" in block.passes:
        assert block.flops("forward_backward") == 6 * multiply_adds


def test_a_table_s_rows_follow_zipf_s_law():
    indices = BLOCKS["dlrm"].from_label("5000x1x1000x4").inputs(0, "float32")["indices"]
    assert indices.min() == 0 and indices.max() < 1000
    assert np.mean(indices == 0) == pytest.approx(np.log(2) / np.log(1001), abs=0.02)
