"""Every config of attention on a GPU, where there is one: what compiled code computes, forward and backward.

The interpreter shows that the kernels are right, not that the compiler is: pipelines and tensor cores exist
on a GPU only. A tuner takes the fastest config, so each must be right.
"""

from itertools import zip_longest

import pytest
import torch
from support.gpu_only import needs_cuda, relative_rms
from torch.nn.functional import scaled_dot_product_attention

from fuseproof.kernels.triton import attention
from fuseproof.kernels.triton.launch import architecture_of
from fuseproof.kernels.triton.ops.attention.backward import attention_backward
from fuseproof.kernels.triton.ops.attention.configs import (
    HEAD_DIMS,
    forward_candidates,
    key_candidates,
    query_candidates,
)
from fuseproof.kernels.triton.ops.attention.forward import attention_forward

pytestmark = needs_cuda

DTYPES = [torch.float16, torch.bfloat16, torch.float32]


def tensors(dtype, head_dim, queries, keys):
    generator = torch.Generator().manual_seed(0)
    shapes = {"q": (2, queries, 4, head_dim), "k": (2, keys, 2, head_dim), "v": (2, keys, 2, head_dim)}
    shapes["do"] = shapes["q"]
    return {
        name: torch.randn(shape, generator=generator).to("cuda", dtype).transpose(1, 2)
        for name, shape in shapes.items()
    }


def passes(q, k, v, do, causal):
    leaves = [tensor.detach().requires_grad_() for tensor in (q, k, v)]
    out = scaled_dot_product_attention(*leaves, is_causal=causal, enable_gqa=True)
    return out.detach(), *torch.autograd.grad(out, leaves, do)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(("queries", "keys"), [(300, 257), (256, 384), (3, 1030)])
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_every_config(dtype, head_dim, queries, keys, causal):
    given = tensors(dtype, head_dim, queries, keys)
    q, k, v, do = given.values()
    exact = passes(**{name: tensor.double() for name, tensor in given.items()}, causal=causal)
    allowed = [
        2 * relative_rms(value, true) + torch.finfo(dtype).eps
        for value, true in zip(passes(**given, causal=causal), exact, strict=True)
    ]
    problem = architecture_of(q.device), dtype.itemsize, head_dim
    rows = 2 * queries if 2 * queries <= 64 else queries
    for config in forward_candidates(*problem, rows):
        out, lse = attention_forward(q, k, v, causal=causal, config=config)
        assert relative_rms(out, exact[0]) <= allowed[0], config
    pairs = zip_longest(query_candidates(*problem), key_candidates(*problem))
    for query_config, key_config in pairs:
        gradients, again = (
            attention_backward(
                do, q, k, v, out, lse, causal=causal, scale=head_dim**-0.5,
                query_config=query_config, key_config=key_config,
            )
            for _ in range(2)
        )  # fmt: skip
        for gradient, same, true, limit in zip(gradients, again, exact[1:], allowed[1:], strict=True):
            assert relative_rms(gradient, true) <= limit, (query_config, key_config)
            assert torch.equal(gradient, same)


@pytest.mark.parametrize("queries", [300, 3], ids=["whole", "split"])
def test_a_captured_graph_replays(queries):
    q, k, v, _ = tensors(torch.bfloat16, 128, queries, 1030).values()
    expected = attention(q, k, v)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = attention(q, k, v)
    captured.zero_()
    graph.replay()
    assert torch.equal(captured, expected)
