"""Cross entropy of logits and class indices. Algorithm: `kernels`; launches: `launches`.

Registered with torch.library as `fuseproof::cross_entropy` and `fuseproof::cross_entropy_backward`, so that
torch.compile traces through both passes.
"""

import torch

from fuseproof.kernels.triton.launch import check_tensors, name_of
from fuseproof.kernels.triton.ops.cross_entropy.launches import cross_entropy_backward, cross_entropy_forward
from fuseproof.kernels.triton.rows import check_rows

_REDUCTIONS = ("none", "mean", "sum")


@torch.library.custom_op("fuseproof::cross_entropy", mutates_args=())
def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return cross_entropy_forward(logits, targets)


@_cross_entropy.register_fake
def _(logits, targets):
    rows = logits.shape[0]
    return (
        logits.new_empty((rows,), dtype=torch.float32),
        logits.new_empty((2, rows), dtype=torch.float32),
    )


@torch.library.custom_op("fuseproof::cross_entropy_backward", mutates_args=())
def _cross_entropy_backward(
    dlosses: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, statistics: torch.Tensor
) -> torch.Tensor:
    return cross_entropy_backward(dlosses, logits, targets, statistics)


@_cross_entropy_backward.register_fake
def _(dlosses, logits, targets, statistics):
    return logits.new_empty(logits.shape)


def _save(ctx, inputs, output):
    logits, targets = inputs
    _, statistics = output
    ctx.mark_non_differentiable(statistics)
    ctx.set_materialize_grads(False)  # else autograd fills the missing gradient of the statistics with zeros
    ctx.save_for_backward(logits, targets, statistics)


def _gradient(ctx, dlosses, _):
    return None if dlosses is None else _cross_entropy_backward(dlosses, *ctx.saved_tensors), None


def _no_second_derivative(ctx, *_):
    raise NotImplementedError(
        "cross_entropy: second derivatives are not implemented; use torch.nn.functional.cross_entropy where "
        "you differentiate twice"
    )


_cross_entropy.register_autograd(_gradient, setup_context=_save)
_cross_entropy_backward.register_autograd(_no_second_derivative)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    """log Σ exp(logits) − logits[target] of each row, or their mean or sum.

    Args:
        logits: (rows, vocabulary), float16, bfloat16 or float32; last dimension contiguous, not copied.
        targets: (rows,), int64 or int32, each at least 0 and below the vocabulary; the loss of any other is
            not a number. There is no index that is ignored.
        reduction: `mean`, `sum` or `none`.

    Differentiable once in the logits, which each pass reads once; probabilities are never stored. Returns
    float32, whatever the dtype of the logits.

    Raises ValueError or TypeError for unsupported arguments, NotImplementedError for tensors that are not on
    a GPU (outside Triton's interpreter).
    """
    _check(logits, targets, reduction)
    losses, _ = _cross_entropy(logits, targets)
    if reduction == "none":
        return losses
    reduced: torch.Tensor = losses.mean() if reduction == "mean" else losses.sum()
    return reduced


def _check(logits: torch.Tensor, targets: torch.Tensor, reduction: str) -> None:
    check_tensors("cross_entropy", {"logits": logits}, {})
    if logits.dim() != 2:
        raise ValueError(f"cross_entropy: logits must be (rows, vocabulary), not {tuple(logits.shape)}")
    check_rows("cross_entropy", {"logits": logits})
    if not isinstance(targets, torch.Tensor) or targets.dtype not in (torch.int64, torch.int32):
        found = name_of(targets.dtype) if isinstance(targets, torch.Tensor) else type(targets).__name__
        raise TypeError(f"cross_entropy: targets must be a tensor of int64 or int32, not {found}")
    if targets.shape != logits.shape[:1]:
        raise ValueError(
            f"cross_entropy: targets must be of shape ({logits.shape[0]},), one for each row of the logits, "
            f"not {tuple(targets.shape)}"
        )
    if targets.device != logits.device:
        raise ValueError(
            "cross_entropy: all tensors must be on one device, "
            f"but logits is {logits.device}, targets is {targets.device}"
        )
    if reduction not in _REDUCTIONS:
        raise ValueError(
            f"cross_entropy: unknown reduction {reduction!r}; there are {', '.join(_REDUCTIONS)}"
        )
