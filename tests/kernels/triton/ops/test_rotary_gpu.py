"""Every config of the rotary embedding on a GPU, where there is one: what compiled code computes."""

import pytest
import torch
from support.gpu_only import needs_cuda, relative_rms

from fuseproof.kernels.triton import rotary
from fuseproof.kernels.triton.launch import FLOATS, name_of
from fuseproof.kernels.triton.ops.rotary.configs import CONFIGS
from fuseproof.kernels.triton.ops.rotary.launches import rotate

pytestmark = needs_cuda

DEVICE = "cuda"


def named(value):
    if isinstance(value, torch.dtype):
        return name_of(value)
    return f"{value.BLOCK_S}x{value.half}-h{value.heads}-w{value.warps}"


def rotated(x, cos, sin):
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def problem(dtype, head_dim):
    """q and k with heads behind positions, as a projection leaves them; the tables."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    q, k = (
        torch.randn(2, 1023, heads, head_dim, generator=generator, device=DEVICE).to(dtype).transpose(1, 2)
        for heads in (33, 9)
    )
    angle = 6.3 * torch.rand(1023, head_dim // 2, generator=generator, device=DEVICE)
    return q, k, angle.cos().to(dtype), angle.sin().to(dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=named)
@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_every_config(config, dtype):
    for head_dim in (2 * config.half, 2 * config.half - 2):
        q, k, cos, sin = problem(dtype, head_dim)
        for backward in (False, True):
            first, again = (rotate(q, k, cos, sin, backward=backward, config=config) for _ in range(2))
            turned = -sin.double() if backward else sin.double()
            for x, found, same in zip((q, k), first, again, strict=True):
                exact = rotated(x.double(), cos.double(), turned)
                assert relative_rms(found, exact) <= torch.finfo(dtype).eps, head_dim
                assert torch.equal(found, same), head_dim


def test_a_captured_graph_replays():
    q, k, cos, sin = problem(torch.bfloat16, 128)
    expected = rotary(q, k, cos, sin)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = rotary(q, k, cos, sin)
    for tensor in captured:
        tensor.zero_()
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))
