"""What the tests on a GPU share."""

import pytest
import torch

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA GPU, to run what the compiler makes of the kernels"
)


def relative_rms(result, exact):
    """The relative RMS error of a tensor on the GPU; `exact` is float64."""
    return ((result.double() - exact).square().mean() / exact.square().mean()).sqrt().item()
