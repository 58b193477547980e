"""Own functions in own tests: `pytest examples/pytest/test_softmax.py --benchmark-json out.json`."""

import numpy as np
import pytest
import torch
from softmax import composed, fused, in_numpy


@pytest.mark.fuseproof(threads=1)
def test_fused_is_at_least_a_fifth_faster(fuseproof):
    def inputs(seed):
        return {"x": np.random.default_rng(seed).standard_normal((301, 1027), np.float32)}

    fuseproof(fused, inputs=inputs, baseline=composed, reference=in_numpy, at_least=1.2)


def test_one_row(benchmark):
    """A test of pytest-benchmark's own stays as it is."""
    benchmark(fused, torch.ones(1, 5))
