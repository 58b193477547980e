"""Every config of the matrix product on a GPU, where there is one: what compiled code computes.

The interpreter shows that the kernels are right, not that the compiler is: pipelines, warp specialization and
tensor descriptors exist on a GPU only. A tuner takes the fastest config, so each must be right.
"""

from dataclasses import replace

import pytest
import torch
from support.gpu_only import needs_cuda, relative_rms
from torch.nn.functional import gelu

from fuseproof.kernels.triton import matmul
from fuseproof.kernels.triton.launch import architecture_of
from fuseproof.kernels.triton.ops.matmul.api import matmul_forward
from fuseproof.kernels.triton.ops.matmul.configs import CONFIGS, is_legal
from fuseproof.kernels.triton.ops.matmul.launches import problem_of

DEVICE = "cuda"

pytestmark = needs_cuda

DTYPES = {
    "half": torch.bfloat16,
    "float8": torch.float8_e4m3fn,
    "float8_fast": torch.float8_e4m3fn,
    "tf32": torch.float32,
    "ieee": torch.float32,
}
# Relative RMS error of a product of operands that are exact: the result's rounding, TF32's 10 bits, or the
# about 14 bits of Hopper's accumulator of float8 products (DeepSeek-V3, https://arxiv.org/abs/2412.19437).
LIMITS = {"half": 4e-3, "float8": 4e-3, "float8_fast": 2e-2, "tf32": 2e-3, "ieee": 2e-6}


def normal(shape, dtype, seed, layout="n"):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(shape[::-1] if layout == "t" else shape, generator=generator).to(DEVICE, dtype)
    return rows.t() if layout == "t" else rows


def name_of(config):
    flags = f"{'-aligned' * config.aligned}{'-tma' * config.tma}{'-specialized' * config.specialize}"
    blocks = f"{config.BLOCK_M}x{config.BLOCK_N}x{config.BLOCK_K}x{config.stages}"
    return f"{config.products}-{blocks}-m{config.m}{flags}"


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_config(config, size):
    """All layouts, K whole and split, and as much epilogue as there is room for; the same bits twice.

    Small: ragged at every edge. Large: several tiles for each program of the persistent kernel.
    """
    dtype = DTYPES[config.products]
    result_dtype = torch.bfloat16 if dtype.itemsize == 1 else dtype
    odd = 0 if config.aligned or config.tma else 3
    scale = 24 if size == "large" else 2
    m, n, k = (
        scale * config.BLOCK_M + 32 + odd,
        scale * config.BLOCK_N + 32 + odd,
        7 * config.BLOCK_K + 16 + odd,
    )
    m = int(min(m, config.m))
    how = {
        "activation": "gelu_tanh" if config.room < 3 else "gelu",
        "precision": "tf32" if config.products == "tf32" else "ieee",
        "fast_accumulation": config.products == "float8_fast",
    }
    bias = normal((n,), result_dtype, 3)
    residual = normal((m, n), result_dtype, 4) if config.room > 1 else None
    ran = 0
    for layouts in ("nn", "nt", "tn", "tt"):
        a, b = normal((m, k), dtype, 1, layouts[0]), normal((k, n), dtype, 2, layouts[1])
        exact_pre = a.double() @ b.double() + bias.double()
        exact = gelu(exact_pre, approximate="tanh" if config.room < 3 else "none")
        exact = exact if residual is None else exact + residual.double()
        c = torch.empty((m, n), dtype=result_dtype, device=DEVICE)
        pre = c if config.room > 1 else None
        problem = problem_of(a, b, bias, residual, c, pre, **how)
        for chosen in (replace(config, splits=splits) for splits in (1, 3)):
            if not is_legal(chosen, architecture_of(a.device), problem):
                continue
            ran += 1
            options = {**how, "residual": residual, "save_pre": pre is not None, "config": chosen}
            (first, first_pre), (again, again_pre) = (matmul_forward(a, b, bias, **options) for _ in range(2))
            assert relative_rms(first, exact) <= LIMITS[config.products], (layouts, chosen.splits)
            assert torch.equal(first, again), (layouts, chosen.splits)
            if pre is not None:
                assert relative_rms(first_pre, exact_pre) <= LIMITS[config.products], (layouts, chosen.splits)
                assert torch.equal(first_pre, again_pre), (layouts, chosen.splits)
    if not ran:
        pytest.skip(f"the config is not for {architecture_of(torch.device(DEVICE, 0))}")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(2048, 512, 1536), (131, 33, 97), (8, 4096, 1024)], ids=str)
def test_gradients_as_in_float64(shape, dtype):
    m, k, n = shape
    made = [((m, k), "n"), ((k, n), "t"), ((n,), "n"), ((m, n), "t")]
    leaves = [
        normal(size, dtype, seed, layout).requires_grad_() for seed, (size, layout) in enumerate(made, 1)
    ]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    dc = normal((m, n), dtype, 9)
    a, b, bias, residual = leaves
    c = matmul(a, b, bias, activation="gelu", residual=residual)
    gradients = torch.autograd.grad(c, leaves, dc, retain_graph=True)
    again = torch.autograd.grad(c, leaves, dc)
    a, b, bias, residual = exact
    expected = torch.autograd.grad(gelu(a @ b + bias) + residual, exact, dc.double())
    limit = (
        1e-5 if dtype == torch.float32 else 2e-2
    )  # the saved argument is rounded before its slope is taken
    for gradient, value, repeated in zip(gradients, expected, again, strict=True):
        assert relative_rms(gradient, value) <= limit
        assert torch.equal(gradient, repeated)


def test_a_captured_graph_replays():
    a, b = normal((8, 4096), torch.bfloat16, 1), normal((4096, 1024), torch.bfloat16, 2, "t")
    expected = matmul(a, b)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = matmul(a, b)
    captured.zero_()
    graph.replay()
    assert torch.equal(captured, expected)
