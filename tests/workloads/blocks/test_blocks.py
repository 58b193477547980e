"""Shapes, parameters and work of the blocks of networks."""

from __future__ import annotations

import numpy as np
import pytest

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.workloads.blocks import BLOCKS
from fuseproof.workloads.blocks.base import SCALES, USES
from fuseproof.workloads.blocks.conv_residual import STATISTICS
from fuseproof.workloads.modules import State

NAMED = [(name, scale) for name, kind in BLOCKS.items() for scale in kind.named_shapes]


@pytest.mark.parametrize(("name", "scale"), NAMED)
def test_a_label_names_one_shape_at_every_scale(name, scale):
    block = BLOCKS[name].from_label(scale)
    assert BLOCKS[name].from_label(block.label) == block
    group = f"{name}[{block.label}-float32-{block.passes[-1]}]"
    assert Case.from_group(group).workload == block


@pytest.mark.parametrize("name", BLOCKS)
def test_there_is_a_shape_for_every_use_at_every_scale(name):
    kind = BLOCKS[name]
    uses = [use for use in USES if use != "training" or "training_step" in kind.passes]
    assert set(kind.named_shapes) == {f"{scale}-{use}" for scale in SCALES for use in uses}
    for scale in SCALES:
        assert kind.from_label(f"{scale}-single").batch == 1
        assert kind.from_label(f"{scale}-large").batch >= 32


def test_frozen_statistics_are_inputs_and_no_parameters():
    frozen, free = (BLOCKS["conv_residual"].from_label(label) for label in ("cpu-single", "cpu-training"))
    assert set(frozen.input_shapes) - set(free.input_shapes) == {*STATISTICS}
    assert frozen.parameters == free.parameters
    assert frozen.inputs(0, "float32")["first_variance"].min() > 0


@pytest.mark.parametrize("name", BLOCKS)
def test_initial_parameters_are_the_same_each_time_and_of_the_size_that_keeps_variance(name):
    block = BLOCKS[name].from_label("cpu-single")
    first, same = block.initial_parameters(), block.initial_parameters()
    state = State.of(first, {}, block.optimizer)
    assert {name: values.shape for name, values in first.items()} == block.parameters
    for parameter, values in first.items():
        assert np.array_equal(values, same[parameter])
        drawn = state.draw(parameter, values.shape, np.random.default_rng(1))
        for each in (values, drawn):
            if parameter.endswith("_scale"):
                assert each.mean() == pytest.approx(1, abs=0.1), parameter
            elif not parameter.endswith("_bias") and each.size > 1000:
                assert each.std() * np.sqrt(block.fan_in(parameter)) == pytest.approx(1, rel=0.1), parameter


def test_a_function_takes_the_fields_that_it_names():
    block = BLOCKS["decoder_block"].from_label("cpu-single")
    taken = block.taken_by(lambda parameters, x, batch, *, heads, other=0: None)
    assert taken == {"heads": block.heads}


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


def test_decoding_has_no_training_step():
    with pytest.raises(UserError, match="decode has no training_step pass"):
        Case.from_group("decode[2x3x16x4x2x24-float32-training_step]")


@pytest.mark.parametrize(
    ("name", "label", "multiply_adds"),
    [
        ("mlp_block", "3x2x4x8", 3 * 2 * 4 * 8 * 2),
        ("encoder_block", "1x2x4x1", 2 * (4 * 12 + 4 * 4 + 4 * 16 + 16 * 4) + 2 * 2 * 2 * 4),
        ("conv_residual", "1x2x3", 2 * 4 * 9 * 3 * 3),
        ("lstm", "2x3x4", 2 * 2 * 3 * (4 * 16 + 16 * 4)),
        ("dlrm", "1x2x5x3", 13 * 12 + 12 * 3 + 3 * 3 + (3 + 3) * 12 + 12),
    ],
)
def test_work_is_counted_by_the_textbook(name, label, multiply_adds):
    block = BLOCKS[name].from_label(label)
    assert block.flops("inference") == 2 * multiply_adds
    assert block.flops("training_step") == 6 * multiply_adds


def test_a_table_s_rows_follow_zipf_s_law():
    indices = BLOCKS["dlrm"].from_label("5000x1x1000x4").inputs(0, "float32")["indices"]
    assert indices.min() == 0 and indices.max() < 1000
    assert np.mean(indices == 0) == pytest.approx(np.log(2) / np.log(1001), abs=0.02)
