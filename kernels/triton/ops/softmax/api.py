"""Softmax over the last dimension. Algorithm: `kernels`; launches: `launches`.

Registered with torch.library as `fuseproof::softmax` and `fuseproof::softmax_backward`, so that torch.compile
traces through both passes.
"""

import torch

from fuseproof.kernels.triton.launch import check_tensors
from fuseproof.kernels.triton.ops.softmax.launches import softmax_backward, softmax_forward
from fuseproof.kernels.triton.rows import check_rows


@torch.library.custom_op("fuseproof::softmax", mutates_args=())
def _softmax(x: torch.Tensor) -> torch.Tensor:
    return softmax_forward(x)


@_softmax.register_fake
def _(x):
    return x.new_empty(x.shape)


@torch.library.custom_op("fuseproof::softmax_backward", mutates_args=())
def _softmax_backward(y: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    return softmax_backward(y, dy)


@_softmax_backward.register_fake
def _(y, dy):
    return y.new_empty(y.shape)


def _save(ctx, inputs, output):
    ctx.save_for_backward(output)


def _gradient(ctx, dy):
    (y,) = ctx.saved_tensors
    return _softmax_backward(y, dy)


def _no_second_derivative(ctx, *_):
    raise NotImplementedError(
        "softmax: second derivatives are not implemented; use torch.softmax where you differentiate twice"
    )


_softmax.register_autograd(_gradient, setup_context=_save)
_softmax_backward.register_autograd(_no_second_derivative)


def softmax(x: torch.Tensor) -> torch.Tensor:
    """exp(x − max(x)) / Σ exp(x − max(x)) over the last dimension.

    Args:
        x: (..., columns), float16, bfloat16 or float32; last dimension contiguous and rows evenly spaced, not
            copied.

    Differentiable once. Forward, rows of up to 32,768 columns are read once, longer ones twice; backward, of
    up to 16,384 (tested to 262,144). Returns y of the shape and dtype of x, contiguous.

    Raises ValueError or TypeError for unsupported arguments, NotImplementedError for tensors that are not on
    a GPU (outside Triton's interpreter).
    """
    check_tensors("softmax", {"x": x}, {})
    check_rows("softmax", {"x": x})
    y: torch.Tensor = _softmax(x)
    return y
