"""Every config of cross entropy on a GPU, where there is one: what compiled code computes, both passes."""

import pytest
import torch
from support.gpu_only import needs_cuda, relative_rms
from torch.nn import functional

from fuseproof.kernels.triton import cross_entropy
from fuseproof.kernels.triton.launch import FLOATS, architecture_of, name_of
from fuseproof.kernels.triton.ops.cross_entropy.configs import BACKWARD_CONFIGS, FORWARD_CONFIGS, is_legal
from fuseproof.kernels.triton.ops.cross_entropy.launches import cross_entropy_backward, cross_entropy_forward

pytestmark = needs_cuda

DEVICE = "cuda"


def named(value):
    if isinstance(value, torch.dtype):
        return name_of(value)
    return f"{value.columns}-{value.BLOCK_M}x{value.BLOCK_N}-w{value.warps}-s{value.stages}"


def problems(dtype, config):
    """Whole blocks and a ragged edge: logits, targets, dlosses, and losses and gradients in float64."""
    architecture = architecture_of(torch.device(DEVICE, 0))
    longest = 128256 if config.columns == float("inf") else int(config.columns)
    generator = torch.Generator(DEVICE).manual_seed(0)
    for columns in (longest, longest - 3):
        if not is_legal(config, architecture, columns, dtype.itemsize):
            pytest.skip(f"the config is not for {architecture}")
        rows = min(2 * config.BLOCK_M * architecture.processors + 1, 2**24 // columns)
        logits = (3 * torch.randn(rows, columns, generator=generator, device=DEVICE)).to(dtype)
        targets = torch.randint(columns, (rows,), generator=generator, device=DEVICE)
        dlosses = torch.randn(rows, generator=generator, device=DEVICE)
        yield logits, targets, dlosses, by_pytorch(logits.double(), targets, dlosses.double())


def by_pytorch(logits, targets, dlosses):
    leaf = logits.detach().requires_grad_()
    losses = functional.cross_entropy(
        leaf.float() if leaf.dtype.itemsize < 4 else leaf, targets, reduction="none"
    )
    losses.backward(dlosses)
    return losses.detach(), leaf.grad


@pytest.mark.parametrize("dtype", FLOATS, ids=named)
@pytest.mark.parametrize("config", FORWARD_CONFIGS, ids=named)
def test_every_forward_config(config, dtype):
    for logits, targets, dlosses, (exact, _) in problems(dtype, config):
        first, again = (cross_entropy_forward(logits, targets, config=config) for _ in range(2))
        limit = 2 * relative_rms(by_pytorch(logits, targets, dlosses)[0], exact) + 1e-6
        assert relative_rms(first[0], exact) <= limit, logits.shape
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), logits.shape


@pytest.mark.parametrize("dtype", FLOATS, ids=named)
@pytest.mark.parametrize("config", BACKWARD_CONFIGS, ids=named)
def test_every_backward_config(config, dtype):
    for logits, targets, dlosses, (_, exact) in problems(dtype, config):
        _, statistics = cross_entropy_forward(logits, targets)
        first, again = (
            cross_entropy_backward(dlosses, logits, targets, statistics, config=config) for _ in range(2)
        )
        limit = 2 * relative_rms(by_pytorch(logits, targets, dlosses)[1], exact) + torch.finfo(dtype).eps
        assert relative_rms(first, exact) <= limit, logits.shape
        assert torch.equal(first, again), logits.shape


@pytest.mark.parametrize("columns", [1000, 128256])
def test_a_captured_graph_replays(columns):
    logits = torch.randn(64, columns, device=DEVICE, dtype=torch.bfloat16)
    targets = torch.randint(columns, (64,), device=DEVICE)
    expected = cross_entropy(logits, targets)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = cross_entropy(logits, targets)
    captured.zero_()
    graph.replay()
    assert torch.equal(captured, expected)
