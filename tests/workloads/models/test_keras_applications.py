"""Names, shapes and inputs of the models that come with Keras, without Keras."""

from __future__ import annotations

import numpy as np
import pytest

from fuseproof.cases import parse_group
from fuseproof.implementations import IMPLEMENTATIONS
from fuseproof.workloads.blocks.base import SCALES
from fuseproof.workloads.models import MODELS
from fuseproof.workloads.models.keras_applications import KERAS_APPLICATIONS, cases


@pytest.mark.parametrize("scale", SCALES)
def test_the_population_has_every_model_and_both_batches(scale):
    found = [parse_group(group) for group in cases(scale)]
    assert len(found) == len({*cases(scale)}) and None not in found
    shapes = [(each.pass_, MODELS[each.operator].from_label(each.shape)) for each in found]
    assert {pass_ for pass_, _ in shapes} == {"inference"}
    assert {model.name for _, model in shapes} == {each.name for each in KERAS_APPLICATIONS}
    assert {model.batch for _, model in shapes} == {1, 32}


@pytest.mark.parametrize("kind", KERAS_APPLICATIONS)
def test_images_are_what_the_model_takes(kind):
    images = kind(batch=3, size=8).draw_inputs(np.random.default_rng(0))["images"]
    assert images.shape == (3, 8, 8, 3)
    if kind.pixels:
        assert images.min() >= 0 and 200 < images.max() <= 255 and (images == images.round()).all()
    else:
        assert abs(images.mean()) < 0.2 and images.std() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("kind", KERAS_APPLICATIONS)
def test_every_row_is_compared_with_keras_called_as_it_is(kind):
    rows = {each.name: each for each in IMPLEMENTATIONS if each.workload == kind.name}
    assert {each.framework for each in rows.values()} == {"tensorflow", "jax"}
    assert len({each.target for each in rows.values()}) == 1
    assert {each.baseline for each in rows.values()} == {kind.reference_by} <= {*rows}
    assert not any(each.is_foreign for each in rows.values())
