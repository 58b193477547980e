"""Every config of SwiGLU's elementwise part on a GPU, where there is one, and the layer in a graph."""

import pytest
import torch
from support.gpu_only import needs_cuda, relative_rms

from fuseproof.kernels.triton import swiglu
from fuseproof.kernels.triton.launch import FLOATS, name_of
from fuseproof.kernels.triton.ops.swiglu.configs import CONFIGS
from fuseproof.kernels.triton.ops.swiglu.launches import silu_product_backward, silu_product_forward

pytestmark = needs_cuda

DEVICE = "cuda"


def named(value):
    return name_of(value) if isinstance(value, torch.dtype) else f"{value.BLOCK}-w{value.warps}"


@pytest.mark.parametrize("dtype", FLOATS, ids=named)
@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_every_config(config, dtype):
    generator = torch.Generator(DEVICE).manual_seed(0)
    for elements in (2**20, 2**20 - 3):
        g, u, dh = (torch.randn(elements, generator=generator, device=DEVICE).to(dtype) for _ in range(3))
        leaves = [tensor.double().requires_grad_() for tensor in (g, u)]
        h = torch.nn.functional.silu(leaves[0]) * leaves[1]
        h.backward(dh.double())
        first, again = (
            (silu_product_forward(g, u, config=config), *silu_product_backward(dh, g, u, config=config))
            for _ in range(2)
        )
        exact = (h.detach(), *(leaf.grad for leaf in leaves))
        for found, same, right in zip(first, again, exact, strict=True):
            assert relative_rms(found, right) <= torch.finfo(dtype).eps, elements
            assert torch.equal(found, same), elements


def test_a_captured_graph_replays():
    x = torch.randn(64, 256, device=DEVICE, dtype=torch.bfloat16)
    gate, up = (torch.randn(256, 512, device=DEVICE, dtype=torch.bfloat16) / 16 for _ in range(2))
    down = torch.randn(512, 256, device=DEVICE, dtype=torch.bfloat16) / 16
    expected = swiglu(x, gate, up, down)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = swiglu(x, gate, up, down)
    captured.zero_()
    graph.replay()
    assert torch.equal(captured, expected)
