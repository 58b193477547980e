"""`fuseproof::layer_norm` and `fuseproof::rms_norm`: registered with torch.library, with their gradients.

torch.compile traces through both passes: each is one operator. The backward pass needs s = x + residual: if
the forward pass returns s, it is saved, else x and the residual are saved and added again. Both ways move the
same number of bytes over both passes.
"""

from collections.abc import Callable
from math import inf

import torch

from fuseproof.kernels.triton.launch import check_same_dtype, check_tensors, name_of
from fuseproof.kernels.triton.ops.norms.backward import norm_backward
from fuseproof.kernels.triton.ops.norms.forward import norm_forward
from fuseproof.kernels.triton.rows import check_rows

Forward = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None, float, bool],
    tuple[torch.Tensor, torch.Tensor, torch.Tensor],
]


def define(name: str, *, centred: bool) -> Forward:
    """Register `fuseproof::<name>` and `fuseproof::<name>_backward`; return the first.

    It takes (x, weight, bias, residual, eps, return_sum) and returns y, s (empty unless `return_sum`), and
    the statistics of `forward.forward_launch`, which have no gradient.
    """

    @torch.library.custom_op(f"fuseproof::{name}", mutates_args=())
    def forward(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        residual: torch.Tensor | None,
        eps: float,
        return_sum: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return norm_forward(x, weight, bias, residual, eps=eps, centred=centred, return_sum=return_sum)

    @forward.register_fake
    def _(x, weight, bias, residual, eps, return_sum):
        rows = x.numel() // x.shape[-1]
        return (
            x.new_empty(x.shape),
            x.new_empty(x.shape if return_sum else (0,)),
            x.new_empty((2 if centred else 1, rows), dtype=torch.float32),
        )

    @torch.library.custom_op(f"fuseproof::{name}_backward", mutates_args=())
    def backward(
        dy: torch.Tensor,
        ds: torch.Tensor | None,
        x: torch.Tensor,
        residual: torch.Tensor | None,
        weight: torch.Tensor,
        statistics: torch.Tensor,
        bias_dtype: torch.dtype | None,
        wanted: list[bool],
    ) -> list[torch.Tensor]:
        """The wanted ones of dx, dweight and dbias."""
        gradients = norm_backward(
            dy, x, weight, statistics, wanted=wanted, bias_dtype=bias_dtype, residual=residual, ds=ds
        )
        return [gradient for gradient in gradients if gradient is not None]

    @backward.register_fake
    def _(dy, ds, x, residual, weight, statistics, bias_dtype, wanted):
        shapes = ((x.shape, x.dtype), (weight.shape, weight.dtype), (weight.shape, bias_dtype))
        return [
            x.new_empty(shape, dtype=dtype)
            for needed, (shape, dtype) in zip(wanted, shapes, strict=True)
            if needed
        ]

    def save(ctx, inputs, output):
        x, weight, bias, residual, _, return_sum = inputs
        _, s, statistics = output
        ctx.mark_non_differentiable(statistics)
        ctx.set_materialize_grads(False)  # else autograd fills missing gradients with zeros
        ctx.return_sum = return_sum
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(*((s, None) if return_sum else (x, residual)), weight, statistics)

    def gradients(ctx, dy, ds, _):
        wants_x, wants_weight, wants_bias, wants_residual, *_ = ctx.needs_input_grad
        ds = ds if ctx.return_sum else None
        wanted = [wants_x or wants_residual, wants_weight, wants_bias]
        if not any(wanted) or (dy is None and ds is None):
            return None, None, None, None, None, None
        x, residual, weight, statistics = ctx.saved_tensors
        if dy is None:
            dx, dweight, dbias = ds, None, None  # y was not used
        else:
            computed = iter(backward(dy, ds, x, residual, weight, statistics, ctx.bias_dtype, wanted))
            dx, dweight, dbias = (next(computed) if needed else None for needed in wanted)
        return dx if wants_x else None, dweight, dbias, dx if wants_residual else None, None, None

    def no_second_derivative(ctx, *_):
        raise NotImplementedError(
            f"{name}: second derivatives are not implemented; use torch.nn.functional.{name} where you "
            "differentiate twice"
        )

    forward.register_autograd(gradients, setup_context=save)
    backward.register_autograd(no_second_derivative)
    operator: Forward = forward
    return operator


def check(
    operator: str,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    eps: float,
    residual: torch.Tensor | None,
    return_sum: bool,
) -> None:
    """Raise TypeError or ValueError, in one line with the remedy, for unsupported arguments."""
    check_tensors(operator, {"x": x, "weight": weight}, {"bias": bias, "residual": residual})
    check_same_dtype(operator, {"x": x, "residual": residual})
    check_rows(operator, {"x": x})
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is None:
            continue
        if parameter.shape != x.shape[-1:]:
            raise ValueError(
                f"{operator}: {name} must be of shape ({x.shape[-1]},), the last dimension of x, "
                f"not {tuple(parameter.shape)}"
            )
        if parameter.dtype not in (x.dtype, torch.float32):
            raise TypeError(
                f"{operator}: {name} is {name_of(parameter.dtype)}; "
                f"cast it to {name_of(x.dtype)} like x, or float32"
            )
    if residual is not None and residual.shape != x.shape:
        raise ValueError(
            f"{operator}: residual must be of the shape of x {tuple(x.shape)}, not {tuple(residual.shape)}; "
            "use .expand()"
        )
    if return_sum and residual is None:
        raise ValueError(f"{operator}: return_sum needs a residual; without one the sum is x itself")
    if residual is not None:
        check_rows(operator, {"residual": residual})
    if not 0 <= eps < inf:
        raise ValueError(f"{operator}: eps must be finite and not negative, not {eps}")
