"""Every config of softmax on a GPU, where there is one: what compiled code computes, both passes."""

import pytest
import torch
from support.gpu_only import needs_cuda, relative_rms

from fuseproof.kernels.triton import softmax
from fuseproof.kernels.triton.launch import FLOATS, architecture_of, name_of
from fuseproof.kernels.triton.ops.softmax.configs import BACKWARD_CONFIGS, FORWARD_CONFIGS
from fuseproof.kernels.triton.ops.softmax.launches import softmax_backward, softmax_forward
from fuseproof.kernels.triton.row_tiles import is_legal

pytestmark = needs_cuda

DEVICE = "cuda"


def named(value):
    if isinstance(value, torch.dtype):
        return name_of(value)
    return f"{value.columns}-{value.BLOCK_M}x{value.BLOCK_N}-w{value.warps}-p{value.programs}"


def problems(dtype, config, tensors):
    """Whole blocks and a ragged edge, of more rows than the GPU has programs: x, dy, y and dx in float64."""
    architecture = architecture_of(torch.device(DEVICE, 0))
    longest = 65536 if config.columns == float("inf") else int(config.columns)
    generator = torch.Generator(DEVICE).manual_seed(0)
    for columns in (longest, longest - 3):
        if not is_legal(config, architecture, columns, tensors * dtype.itemsize):
            pytest.skip(f"the config is not for {architecture}")
        rows = min(
            2 * config.BLOCK_M * architecture.processors * max(config.programs, 1) + 1, 2**25 // columns
        )
        x, dy = (torch.randn(rows, columns, generator=generator, device=DEVICE).to(dtype) for _ in range(2))
        y = torch.softmax(x.double(), -1)
        yield x, dy, y, y * (dy - (dy * y).sum(-1, keepdim=True))


@pytest.mark.parametrize("dtype", FLOATS, ids=named)
@pytest.mark.parametrize("config", FORWARD_CONFIGS, ids=named)
def test_every_forward_config(config, dtype):
    for x, _, exact, _ in problems(dtype, config, 1):
        first, again = (softmax_forward(x, config=config) for _ in range(2))
        limit = 2 * relative_rms(torch.softmax(x, -1), exact) + torch.finfo(dtype).eps
        assert relative_rms(first, exact) <= limit, x.shape
        assert torch.equal(first, again), x.shape


@pytest.mark.parametrize("dtype", FLOATS, ids=named)
@pytest.mark.parametrize("config", BACKWARD_CONFIGS, ids=named)
def test_every_backward_config(config, dtype):
    for x, dy, _, exact in problems(dtype, config, 2):
        leaf = x.detach().requires_grad_()
        y = torch.softmax(leaf, -1)
        y.backward(dy)
        first, again = (softmax_backward(y.detach(), dy, config=config) for _ in range(2))
        limit = 2 * relative_rms(leaf.grad, exact) + torch.finfo(dtype).eps
        assert relative_rms(first, exact) <= limit, x.shape
        assert torch.equal(first, again), x.shape


@pytest.mark.parametrize("columns", [4096, 65536])
def test_a_captured_graph_replays(columns):
    x = torch.randn(64, columns, device=DEVICE, dtype=torch.bfloat16)
    expected = softmax(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = softmax(x)
    captured.zero_()
    graph.replay()
    assert torch.equal(captured, expected)
