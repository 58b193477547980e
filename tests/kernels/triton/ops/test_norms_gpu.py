"""Every config of the norms on a GPU, where there is one: what compiled code computes, both passes.

The interpreter shows that the kernels are right, not that the compiler is: pipelines, vectors and caches
exist on a GPU only. A tuner takes the fastest config, so each must be right.
"""

import pytest
import torch
from support.gpu_only import needs_cuda, relative_rms
from torch.nn.functional import layer_norm as library_norm

from fuseproof.kernels.triton import layer_norm
from fuseproof.kernels.triton.launch import architecture_of
from fuseproof.kernels.triton.ops.norms import backward, forward
from fuseproof.kernels.triton.ops.norms.configs import BACKWARD_CONFIGS, FORWARD_CONFIGS, is_legal_backward
from fuseproof.kernels.triton.row_tiles import is_legal

pytestmark = needs_cuda

DEVICE = "cuda"
EPS = 1e-5
DTYPES = [torch.float16, torch.bfloat16, torch.float32]


def name_of(value):
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    tile = f"{value.BLOCK_M}x{value.BLOCK_N}-w{value.warps}-p{value.programs}-s{value.stages}"
    return f"{value.columns}-{tile}-b{getattr(value, 'blocks', 1)}"


def tensors(dtype, rows, columns):
    """x, residual, dy: (rows, columns); weight, bias: (columns,)."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    shapes = dict.fromkeys(("x", "residual", "dy"), (rows, columns))
    shapes |= dict.fromkeys(("weight", "bias"), (columns,))
    return {
        name: torch.randn(size, generator=generator, device=DEVICE).to(dtype) for name, size in shapes.items()
    }


def passes(x, residual, weight, bias, dy):
    """Output and gradients of PyTorch's layer norm, in the dtype of the tensors."""
    leaves = [tensor.detach().requires_grad_() for tensor in (x + residual, weight, bias)]
    y = library_norm(leaves[0], x.shape[1:], leaves[1], leaves[2], EPS)
    return y.detach(), *torch.autograd.grad(y, leaves, dy)


def limits(given, exact):
    eps = torch.finfo(given["x"].dtype).eps
    return [2 * relative_rms(value, true) + eps for value, true in zip(passes(**given), exact, strict=True)]


def lengths(config):
    """Whole blocks and a ragged edge, for a config of unbounded rows longer than a block holds."""
    longest = 65536 if config.columns == float("inf") else int(config.columns)
    return longest, longest - 3


def problem(dtype, config):
    """More rows than the GPU has programs, so that each takes several tiles in turn."""
    processors = architecture_of(torch.device(DEVICE, 0)).processors
    rows = 2 * config.BLOCK_M * processors * max(config.programs, 1) + 1
    for columns in lengths(config):
        given = tensors(dtype, min(rows, 2**25 // columns), columns)
        yield given, passes(**{name: tensor.double() for name, tensor in given.items()})


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("config", FORWARD_CONFIGS, ids=name_of)
def test_every_forward_config(config, dtype):
    ran = 0
    for given, exact in problem(dtype, config):
        arguments = {name: tensor for name, tensor in given.items() if name != "dy"}
        columns = given["x"].shape[1]
        architecture = architecture_of(given["x"].device)
        if not is_legal(config, architecture, columns, 2 * dtype.itemsize, 2 * dtype.itemsize):
            continue
        ran += 1
        first, again = (
            forward.norm_forward(**arguments, eps=EPS, centred=True, return_sum=True, config=config)
            for _ in range(2)
        )
        assert relative_rms(first[0], exact[0]) <= limits(given, exact)[0], columns
        assert torch.equal(first[1], given["x"] + given["residual"]), columns
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), columns
    if not ran:
        pytest.skip(f"the config is not for {architecture_of(torch.device(DEVICE, 0))}")


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("config", BACKWARD_CONFIGS, ids=name_of)
def test_every_backward_config(config, dtype):
    ran = 0
    for given, exact in problem(dtype, config):
        x, residual, dy, weight, bias = given.values()
        architecture = architecture_of(x.device)
        if not is_legal_backward(config, architecture, x.shape[1], 3 * dtype.itemsize, dtype.itemsize):
            continue
        ran += 1
        *_, statistics = forward.norm_forward(x, weight, bias, residual, eps=EPS, centred=True)
        first, again = (
            backward.norm_backward(
                dy,
                x,
                weight,
                statistics,
                wanted=[True] * 3,
                bias_dtype=dtype,
                residual=residual,
                config=config,
            )
            for _ in range(2)
        )
        allowed = limits(given, exact)[1:]
        for gradient, same, true, limit in zip(first, again, exact[1:], allowed, strict=True):
            assert relative_rms(gradient, true) <= limit, x.shape
            assert torch.equal(gradient, same), x.shape
    if not ran:
        pytest.skip(f"the config is not for {architecture_of(torch.device(DEVICE, 0))}")


@pytest.mark.parametrize("columns", [4096, 65536])
def test_a_captured_graph_replays(columns):
    given = tensors(torch.bfloat16, 64, columns)
    x, residual, weight, bias = (given[name] for name in ("x", "residual", "weight", "bias"))
    expected = layer_norm(x, weight, bias, residual=residual)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = layer_norm(x, weight, bias, residual=residual)
    captured.zero_()
    graph.replay()
    assert torch.equal(captured, expected)
