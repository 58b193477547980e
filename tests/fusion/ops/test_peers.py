"""The adapters of other packages: the arguments they pass on, with stand-ins for the packages."""

import sys
from types import ModuleType

import pytest
import torch

from fuseproof.fusion.ops import peers
from fuseproof.fusion.ops.torch import attention, layer_norm, rms_norm

X, W, B = torch.randn(6, 32), torch.randn(32), torch.randn(32)


@pytest.fixture
def package(monkeypatch):
    """Put a module with one attribute where an import finds it."""

    def put(name, **attributes):
        parts = name.split(".")
        for index in range(len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[: index + 1]), ModuleType(parts[index]))
        for attribute, value in attributes.items():
            setattr(sys.modules[name], attribute, value)

    return put


def qkv(heads=4, groups=4, length=5, keys=5):
    shapes = ((2, length, heads, 8), (2, keys, groups, 8), (2, keys, groups, 8))
    return tuple(torch.randn(shape) for shape in shapes)


def bshd_attention(q, k, v, causal):
    return attention(*(t.transpose(1, 2) for t in (q, k, v)), causal=causal).transpose(1, 2)


def test_liger(package):
    class LayerNorm:
        @staticmethod
        def apply(x, weight, bias, eps):
            return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps)

    class RMSNorm:
        @staticmethod
        def apply(x, weight, eps, offset, casting_mode, in_place):
            assert (offset, casting_mode, in_place) == (0.0, "llama", False)
            return torch.nn.functional.rms_norm(x, x.shape[-1:], weight, eps)

    package("liger_kernel.ops.layer_norm", LigerLayerNormFunction=LayerNorm)
    assert torch.equal(peers.layer_norm_liger(X, W, B, residual=X), layer_norm(X, W, B, residual=X))
    package("liger_kernel.ops.rms_norm", LigerRMSNormFunction=RMSNorm)
    assert torch.equal(peers.rms_norm_liger(X, W), rms_norm(X, W))
    with pytest.raises(NotImplementedError, match="at most 65,536 columns"):
        peers.rms_norm_liger(torch.empty(1, 65537, device="meta"), W)


def test_quack(package):
    def rmsnorm(x, weight=None, bias=None, residual=None, out_dtype=None, residual_dtype=None, eps=1e-6):
        return torch.nn.functional.rms_norm(
            x if residual is None else x + residual, x.shape[-1:], weight, eps
        )

    def layernorm_fwd(x, weight, bias=None, eps=1e-6):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps)

    package("quack.rmsnorm", rmsnorm=rmsnorm, layernorm_fwd=layernorm_fwd)
    assert torch.equal(peers.rms_norm_quack(X, W, residual=X), rms_norm(X, W, residual=X))
    assert torch.equal(peers.layer_norm_quack(X, W, B), layer_norm(X, W, B))


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_packages(package, groups, causal):
    def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False):
        return bshd_attention(q, k, v, causal)

    class LowerTriangularMask:
        pass

    def memory_efficient_attention(q, k, v, attn_bias=None):
        assert isinstance(attn_bias, LowerTriangularMask) is causal
        if q.ndim == 5:  # (batch, length, groups, heads of a group, head dim), expanded
            assert q.shape[:1] + q.shape[2:] == k.shape[:1] + k.shape[2:] == v.shape[:1] + v.shape[2:]
            q, k, v = (t.flatten(2, 3) for t in (q, k, v))
        return bshd_attention(q, k, v, causal)

    package("flash_attn", flash_attn_func=flash_attn_func)
    package(
        "xformers.ops",
        LowerTriangularMask=LowerTriangularMask,
        memory_efficient_attention=memory_efficient_attention,
    )
    q, k, v = qkv(groups=groups)
    expected = bshd_attention(q, k, v, causal)
    for function in (peers.attention_flash_attn, peers.attention_xformers):
        torch.testing.assert_close(function(q, k, v, causal=causal), expected)


def test_an_unsupported_case_is_skipped(package):
    package("flash_attn", flash_attn_func=None)
    q, k, v = qkv(keys=7)
    with pytest.raises(NotImplementedError, match="aligns a causal mask at the end"):
        peers.attention_flash_attn(q, k, v, causal=True)
    package("xformers.ops", LowerTriangularMask=None, memory_efficient_attention=None)
    q, k, v = qkv(groups=2)
    with pytest.raises(NotImplementedError, match="forward pass only"):
        peers.attention_xformers(q.requires_grad_(), k, v)


def test_backends_of_pytorch(monkeypatch):
    q, k, v = (t.transpose(1, 2) for t in qkv())
    expected = attention(q, k, v, causal=True)
    torch.testing.assert_close(peers.attention_flash(q, k, v, causal=True), expected)
    with pytest.raises(NotImplementedError, match="CUDNN_ATTENTION does not support this attention here"):
        peers.attention_cudnn(q, k, v)

    def broken(q, k, v, *, causal):
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(peers, "attention", broken)
    with pytest.raises(RuntimeError, match="CUDA error"):  # stays what it is
        peers.attention_flash(q, k, v)
