"""Alternatives to this project's kernels: PyTorch's attention by backend, and other packages' kernels.

Packages are imported at the first call, and called as each documents it. Shapes are those of
fuseproof.workloads.operators; attention of flash-attn and xformers takes (batch, length, heads, head dim).
Checked against the sources of liger-kernel 0.8.5, quack-kernels 0.6.5, xformers 0.0.35 and flash-attn 2.8.3;
not run on a GPU yet. A residual is added first, unless the package's own call takes one. A case that a
package does not support raises NotImplementedError with the reason.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fuseproof.fusion.ops.torch import attention
from fuseproof.workloads.operators.layer_norm import EPSILON
from fuseproof.workloads.operators.rms_norm import EPSILON as RMS_EPSILON

_LIGER_COLUMNS = 65536  # liger_kernel.ops.utils.calculate_settings


def layer_norm_liger(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor | None = None) -> Tensor:
    from liger_kernel.ops.layer_norm import LigerLayerNormFunction

    _check_columns(x)
    s = x if residual is None else x + residual
    return LigerLayerNormFunction.apply(s, weight, bias, EPSILON)


def rms_norm_liger(x: Tensor, weight: Tensor, *, residual: Tensor | None = None) -> Tensor:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    _check_columns(x)
    s = x if residual is None else x + residual
    # In place, its backward pass would write over the cotangent, which the next call needs again.
    offset, casting_mode, in_place = 0.0, "llama", False
    return LigerRMSNormFunction.apply(s, weight, RMS_EPSILON, offset, casting_mode, in_place)


def layer_norm_quack(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor | None = None) -> Tensor:
    from quack.rmsnorm import layernorm_fwd

    s = x if residual is None else x + residual
    return layernorm_fwd(s, weight, bias, EPSILON)


def rms_norm_quack(x: Tensor, weight: Tensor, *, residual: Tensor | None = None) -> Tensor:
    from quack.rmsnorm import rmsnorm

    return rmsnorm(x, weight, residual=residual, eps=RMS_EPSILON)


def attention_cudnn(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    return _attention_by(SDPBackend.CUDNN_ATTENTION, q, k, v, causal)


def attention_flash(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    return _attention_by(SDPBackend.FLASH_ATTENTION, q, k, v, causal)


def attention_efficient(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    return _attention_by(SDPBackend.EFFICIENT_ATTENTION, q, k, v, causal)


def _attention_by(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """The library call with one backend; choosing it takes the host some microseconds at every call."""
    try:
        with sdpa_kernel(backend):
            return attention(q, k, v, causal=causal)
    except RuntimeError as error:
        # PyTorch's messages on a GPU and on the CPU.
        if not str(error).startswith(("No available kernel", "No viable backend")):
            raise
        raise NotImplementedError(f"PyTorch's {backend.name} does not support this attention here") from None


def attention_flash_attn(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    from flash_attn import flash_attn_func

    if causal and q.shape[1] != k.shape[1]:
        raise NotImplementedError("flash-attn aligns a causal mask at the end, and the lengths differ")
    return flash_attn_func(q, k, v, causal=causal)


def attention_xformers(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    from xformers.ops import LowerTriangularMask, memory_efficient_attention

    mask = LowerTriangularMask() if causal else None
    if q.shape[2] == k.shape[2]:
        return memory_efficient_attention(q, k, v, attn_bias=mask)
    if q.requires_grad:
        raise NotImplementedError("xformers takes grouped heads in the forward pass only")
    batch, length, groups, dim = k.shape
    share = q.shape[2] // groups
    k, v = (t[:, :, :, None].expand(batch, length, groups, share, dim) for t in (k, v))
    grouped = q.view(q.shape[0], q.shape[1], groups, share, dim)
    return memory_efficient_attention(grouped, k, v, attn_bias=mask).view(q.shape)


def _check_columns(x: Tensor) -> None:
    if x.shape[-1] > _LIGER_COLUMNS:
        raise NotImplementedError(f"liger-kernel takes rows of at most {_LIGER_COLUMNS:,} columns")
