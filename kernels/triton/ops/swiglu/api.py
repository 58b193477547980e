"""SwiGLU: the products by PyTorch, what lies between them as one kernel in each pass.

Registered with torch.library as `fuseproof::silu_product` and `fuseproof::silu_product_backward`, so that
torch.compile traces through both passes. Algorithm: `kernels`; launches: `launches`.
"""

import torch

from fuseproof.kernels.triton.launch import check_same_dtype, check_tensors
from fuseproof.kernels.triton.ops.swiglu.launches import silu_product_backward, silu_product_forward


@torch.library.custom_op("fuseproof::silu_product", mutates_args=())
def _silu_product(g: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    return silu_product_forward(g, u)


@_silu_product.register_fake
def _(g, u):
    return g.new_empty(g.shape)


@torch.library.custom_op("fuseproof::silu_product_backward", mutates_args=())
def _silu_product_backward(
    dh: torch.Tensor, g: torch.Tensor, u: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return silu_product_backward(dh, g, u)


@_silu_product_backward.register_fake
def _(dh, g, u):
    return g.new_empty(g.shape), g.new_empty(g.shape)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _gradients(ctx, dh):
    return _silu_product_backward(dh, *ctx.saved_tensors)


def _no_second_derivative(ctx, *_):
    raise NotImplementedError(
        "swiglu: second derivatives are not implemented; use torch.nn.functional.silu where you "
        "differentiate twice"
    )


_silu_product.register_autograd(_gradients, setup_context=_save)
_silu_product_backward.register_autograd(_no_second_derivative)


def silu_product(g: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """silu(g) · u, element by element.

    Args:
        g: float16, bfloat16 or float32, any shape; copied if it is not contiguous.
        u: shape and dtype of g.

    Differentiable once in both. σ(g) is not stored, but computed again in the backward pass. Returns a tensor
    of the shape and dtype of g, contiguous.

    Raises ValueError or TypeError for unsupported arguments, NotImplementedError for tensors that are not on
    a GPU (outside Triton's interpreter).
    """
    check_tensors("silu_product", {"g": g, "u": u}, {})
    check_same_dtype("silu_product", {"g": g, "u": u})
    if g.shape != u.shape:
        raise ValueError(
            f"silu_product: g and u must have one shape, but are {tuple(g.shape)} and {tuple(u.shape)}"
        )
    h: torch.Tensor = _silu_product(g, u)
    return h


def swiglu(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """(silu(x gate) · (x up)) down, the gated feed-forward layer of Llama.

    Args:
        x: (..., hidden), float16, bfloat16 or float32.
        gate, up: (hidden, inner), of x's dtype; transposed from what torch.nn.Linear holds.
        down: (inner, hidden), likewise.

    The three products are PyTorch's, with its settings for TF32. Differentiable once in all. Returns (...,
    hidden) of x's dtype.

    Raises ValueError or TypeError for unsupported arguments, NotImplementedError for tensors that are not on
    a GPU (outside Triton's interpreter).

    Source: Shazeer 2020, https://arxiv.org/abs/2002.05202.
    """
    check_tensors("swiglu", {"x": x, "gate": gate, "up": up, "down": down}, {})
    check_same_dtype("swiglu", {"x": x, "gate": gate, "up": up, "down": down})
    fits = gate.dim() == 2 and gate.shape == up.shape == down.shape[::-1]
    if not fits or x.dim() == 0 or x.shape[-1] != gate.shape[0]:
        raise ValueError(
            "swiglu: x, gate, up and down must be (..., hidden), twice (hidden, inner) and (inner, hidden), "
            f"not {tuple(x.shape)}, {tuple(gate.shape)}, {tuple(up.shape)} and {tuple(down.shape)}"
        )
    return silu_product(x @ gate, x @ up) @ down
