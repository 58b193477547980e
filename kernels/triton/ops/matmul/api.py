"""Matrix product with a fused epilogue: c = activation(scale_a · scale_b · a b + bias) + residual.

a: (M, K); b: (K, N); bias: (N,); residual, c: (M, N). One dtype: float16, bfloat16, or float32, whose
products are IEEE or, on request, TF32; or a and b are float8 (e4m3) and the rest is bfloat16, float16 or
float32. Operands may have any strides: a transposed operand is read in place. Products accumulate in
float32, the epilogue is computed in float32, and the result is rounded once, at the store.

Backward, with d = dc · activation'(a b + bias):

    da = d bᵀ     db = aᵀ d     dbias = Σ_rows d     dresidual = dc

The two products are the forward kernels', on transposed views. Forward saves the activation's argument,
rounded to c's dtype: M N elements written and read once, in 16 bits 4 bytes of traffic each. Computing it
again would be a third product, 2 K FLOPs for each element: at 295 FLOPs per byte (H100, data sheet: 989
TFLOP/s over 3.35 TB/s) more time wherever K > 590. It is as much memory as PyTorch keeps for the same layer.
Without an activation nothing but a and b is saved, and d is dc.

Which kernel of kernels.py runs, by the rows of configs.py:

    persistent, through tensor descriptors   compute capability 9.0 on, rows of a, b and c 16-byte aligned
    through pointers                         any strides; M ≤ 16, which only waits for b
    split K and a second launch to add up    too few tiles to fill the GPU: small M, or small M and N

M ≤ 16 is bound by the memory that b is read from: 2 M FLOPs for each element of b. The tensor cores always
multiply 16 rows, which costs nothing beside the loads; each program keeps 48 KB of them in flight.

Tiles of c are assigned in groups of rows, so that the programs that run at the same time share operands in
the L2 cache (Tillet et al. 2019, Triton, https://doi.org/10.1145/3315508.3329973). Splitting K is what Osama
et al. 2023, Stream-K, https://arxiv.org/abs/2301.03598, call fixed-split; the parts are added in order, not
atomically. GELU: Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import triton
from fuseproof.kernels.triton.launch import (
    FLOATS,
    Launch,
    architecture_of,
    check_same_dtype,
    check_tensors,
    name_of,
)
from fuseproof.kernels.triton.ops.matmul.configs import Config
from fuseproof.kernels.triton.ops.matmul.launches import (
    ACTIVATIONS,
    DTYPES,
    choices,
    cotangent_launches,
    forward_launches,
    problem_of,
    result_of,
)
from fuseproof.kernels.triton.tuning import choose

PRECISIONS = ("ieee", "tf32")


def matmul_forward(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
    precision: str = "ieee",
    scale_a: Tensor | None = None,
    scale_b: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    fast_accumulation: bool = False,
    save_pre: bool = False,
    config: Config | None = None,
) -> tuple[Tensor, Tensor | None]:
    """c of `matmul`, and the activation's argument with `save_pre`; arguments are not checked.

    `config` overrides the choice.
    """
    shape = a.shape[0], b.shape[1]
    c = torch.empty(shape, dtype=out_dtype or result_of(a.dtype), device=a.device)
    pre = torch.empty_like(c) if save_pre else None
    if not c.numel():
        return c, pre
    how: dict[str, Any] = {
        "activation": activation,
        "precision": precision,
        "fast_accumulation": fast_accumulation,
    }

    def launches_of(config: Config) -> list[Launch]:
        return forward_launches(a, b, bias, residual, scale_a, scale_b, c, pre, config=config, **how)

    def run() -> None:
        chosen = config
        if chosen is None:
            architecture = architecture_of(a.device)
            key, candidates = choices(architecture, problem_of(a, b, bias, residual, c, pre, **how))
            if not candidates:
                raise NotImplementedError(
                    f"matmul: no kernel for {name_of(a.dtype)} at compute capability "
                    f"{architecture.capability / 10}; float8 needs 8.9: cast a and b to bfloat16"
                )
            chosen = choose("matmul", key, candidates, launches_of, a.device)
        for launch in launches_of(chosen):
            launch.run()

    _with_scratch_memory(run)
    return c, pre


def matmul_backward(
    dc: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    pre: Tensor | None,
    *,
    activation: str | None = None,
    precision: str = "ieee",
    need_bias: bool = False,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """da if b is given, db if a is given, and dbias with `need_bias`; None for the others.

    Args:
        dc: (M, N), the gradient with respect to c; any strides.
        a, b: the operands of forward.
        pre: the activation's argument that forward saved; None without activation.
    """
    d, dbias = dc, None
    if need_bias or activation is not None:
        m, n = dc.shape
        if need_bias:
            dbias = torch.empty(n, dtype=dc.dtype, device=dc.device)
        if activation is not None:
            d = torch.empty((m, n), dtype=dc.dtype, device=dc.device)
        if dc.numel():
            dpre = None if activation is None else d
            for launch in cotangent_launches(dc, pre, dpre, dbias, activation=activation):
                launch.run()
        elif dbias is not None:
            dbias.zero_()  # no rows to add up
    da = None if b is None else matmul_forward(d, b.t(), precision=precision)[0]
    db = None if a is None else matmul_forward(a.t(), d, precision=precision)[0]
    return da, db, dbias


def _with_scratch_memory(run: Callable[[], None]) -> None:
    """Call `run` where Triton can allocate the memory that descriptors made in a kernel lie in.

    The allocator is a context variable of Triton's, which is not set in autograd's threads. A copy of the
    context leaves the user's own setting unchanged.
    """
    context = contextvars.copy_context()
    context.run(triton.set_allocator, _allocate)
    context.run(run)


def _allocate(size: int, alignment: int, stream: int | None) -> Tensor:
    # PyTorch aligns to 512 bytes, and keeps the memory from other streams until the kernel has run.
    return torch.empty(size, dtype=torch.int8, device="cuda")


@torch.library.custom_op("fuseproof::matmul", mutates_args=())
def _matmul_op(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    scale_a: Tensor | None,
    scale_b: Tensor | None,
    activation: str | None,
    precision: str,
    out_dtype: torch.dtype,
    fast_accumulation: bool,
    save_pre: bool,
) -> tuple[Tensor, Tensor]:
    c, pre = matmul_forward(
        a,
        b,
        bias,
        activation=activation,
        residual=residual,
        precision=precision,
        scale_a=scale_a,
        scale_b=scale_b,
        out_dtype=out_dtype,
        fast_accumulation=fast_accumulation,
        save_pre=save_pre,
    )
    return c, c.new_empty(0) if pre is None else pre


@_matmul_op.register_fake
def _(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    scale_a: Tensor | None,
    scale_b: Tensor | None,
    activation: str | None,
    precision: str,
    out_dtype: torch.dtype,
    fast_accumulation: bool,
    save_pre: bool,
) -> tuple[Tensor, Tensor]:
    c = a.new_empty((a.shape[0], b.shape[1]), dtype=out_dtype)
    return c, torch.empty_like(c) if save_pre else c.new_empty(0)


@torch.library.custom_op("fuseproof::matmul_backward", mutates_args=())
def _matmul_backward_op(
    dc: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    pre: Tensor | None,
    activation: str | None,
    precision: str,
    need_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    gradients = matmul_backward(
        dc, a, b, pre, activation=activation, precision=precision, need_bias=need_bias
    )
    da, db, dbias = (dc.new_empty(0) if gradient is None else gradient for gradient in gradients)
    return da, db, dbias


@_matmul_backward_op.register_fake
def _(
    dc: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    pre: Tensor | None,
    activation: str | None,
    precision: str,
    need_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    m, n = dc.shape
    da = dc.new_empty(0) if b is None else dc.new_empty((m, b.shape[0]))
    db = dc.new_empty(0) if a is None else dc.new_empty((a.shape[1], n))
    return da, db, dc.new_empty(n if need_bias else 0)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    a, b, _, _, _, _, activation, precision, *_ = inputs
    need_a, need_b, need_bias, *_ = ctx.needs_input_grad
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(
        a if need_b else None,
        b if need_a else None,
        output[1] if activation is not None and (need_a or need_b or need_bias) else None,
    )
    ctx.activation, ctx.precision = activation, precision


def _differentiate(ctx: Any, dc: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    need_a, need_b, need_bias, need_residual, *rest = ctx.needs_input_grad
    da = db = dbias = None
    if dc is not None and (need_a or need_b or need_bias):
        a, b, pre = ctx.saved_tensors
        da, db, dbias = _matmul_backward_op(dc, a, b, pre, ctx.activation, ctx.precision, need_bias)
    return (
        da if need_a else None,
        db if need_b else None,
        dbias if need_bias else None,
        dc if need_residual else None,
        *(None for _ in rest),
    )


def _refuse_second_derivative(ctx: Any, *_: Tensor | None) -> None:
    raise NotImplementedError(
        "matmul: the gradient cannot be differentiated again; use torch.matmul for second derivatives"
    )


_matmul_op.register_autograd(_differentiate, setup_context=_save)
_matmul_backward_op.register_autograd(_refuse_second_derivative)


def _check(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    activation: str | None,
    residual: Tensor | None,
    precision: str,
    scale_a: Tensor | None,
    scale_b: Tensor | None,
    out_dtype: torch.dtype | None,
    fast_accumulation: bool,
) -> None:
    float8 = torch.float8_e4m3fn
    rest = {"bias": bias, "residual": residual}
    scales = {"scale_a": scale_a, "scale_b": scale_b}
    check_tensors("matmul", {"a": a, "b": b}, {**rest, **scales}, dtypes=DTYPES)
    check_same_dtype("matmul", {"a": a, "b": b})
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"matmul: unknown activation {activation!r}; there are {', '.join(map(repr, ACTIVATIONS))}"
        )
    if precision not in PRECISIONS:
        raise ValueError(
            f"matmul: unknown precision {precision!r}; there are {', '.join(map(repr, PRECISIONS))}"
        )
    if precision == "tf32" and a.dtype != torch.float32:
        raise ValueError(f"matmul: precision 'tf32' is for float32 operands, and a is {name_of(a.dtype)}")
    if a.dtype == float8:
        if out_dtype not in (None, *FLOATS):
            raise TypeError(f"matmul: out_dtype must be float16, bfloat16 or float32, not {out_dtype}")
        c_dtype = out_dtype or result_of(a.dtype)
        for name, scale in scales.items():
            if scale is not None and (scale.dtype != torch.float32 or scale.numel() != 1):
                raise ValueError(
                    f"matmul: {name} must be one float32 number in a tensor, "
                    f"not {name_of(scale.dtype)} of shape {tuple(scale.shape)}"
                )
        if torch.is_grad_enabled() and any(
            tensor is not None and tensor.requires_grad for tensor in (a, b, bias, residual, scale_a, scale_b)
        ):
            raise NotImplementedError(
                "matmul: float8 operands have no backward; multiply in bfloat16, or under torch.no_grad()"
            )
    else:
        for name, given in {**scales, "fast_accumulation": fast_accumulation or None}.items():
            if given is not None:
                raise ValueError(f"matmul: {name} is for float8 operands, and a is {name_of(a.dtype)}")
        if out_dtype not in (None, a.dtype):
            raise TypeError(
                f"matmul: another out_dtype than the operands' is for float8, and a is {name_of(a.dtype)}"
            )
        c_dtype = a.dtype
    for name, tensor in rest.items():
        if tensor is not None and tensor.dtype != c_dtype:
            raise TypeError(
                f"matmul: {name} is {name_of(tensor.dtype)} and the result {name_of(c_dtype)}; cast {name}"
            )
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(
            f"matmul: a must be (M, K) and b (K, N), not {tuple(a.shape)} and {tuple(b.shape)}; "
            "a weight stored as (N, K) is passed as weight.t(), without a copy"
        )
    m, n = a.shape[0], b.shape[1]
    if bias is not None and bias.shape != (n,):
        raise ValueError(f"matmul: bias must be of shape ({n},), the columns of b, not {tuple(bias.shape)}")
    if residual is not None and residual.shape != (m, n):
        raise ValueError(
            f"matmul: residual must be of the result's shape ({m}, {n}), "
            f"not {tuple(residual.shape)}; use .expand()"
        )


def matmul(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
    precision: str = "ieee",
    scale_a: Tensor | None = None,
    scale_b: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    fast_accumulation: bool = False,
) -> Tensor:
    """activation(scale_a · scale_b · a b + bias) + residual.

    Args:
        a: (M, K), float16, bfloat16, float32 or float8_e4m3fn.
        b: (K, N), of a's dtype. Either operand may be transposed or strided in any way; nothing is copied.
        bias: (N,), added to every row before the activation.
        activation: None, "gelu" (exact), "gelu_tanh", "relu" or "silu".
        residual: (M, N), added after the activation; any strides, so a row or column may be expanded.
        precision: of products of float32: "ieee", or "tf32" (10 bits of mantissa, on tensor cores).
        scale_a, scale_b: float8 only: one float32 number each, in a tensor.
        out_dtype: float8 only: of the result, bias and residual; bfloat16 unless given.
        fast_accumulation: float8 only: leave all sums to the tensor cores, whose accumulator is shorter than
            float32 on Hopper, instead of adding up in float32 every 64 to 256 terms.

    bias and residual have the result's dtype, all tensors one device. Returns (M, N), contiguous.

    Differentiable once with respect to a, b, bias and residual (not with float8 operands), and traced by
    torch.compile without a graph break. With one choice of config, which is kept for each GPU, results and
    gradients are the same bits in every run; FUSEPROOF_AUTOTUNE=0 chooses without timing.

    Raises ValueError or TypeError for unsupported arguments, NotImplementedError for tensors that are
    not on a GPU (outside Triton's interpreter), for gradients of float8 products, for a GPU without float8,
    and for a second derivative.

    Source: blocked product with grouped tiles, Tillet et al. 2019, https://doi.org/10.1145/3315508.3329973.
    """
    _check(a, b, bias, activation, residual, precision, scale_a, scale_b, out_dtype, fast_accumulation)
    save_pre = (
        activation is not None
        and torch.is_grad_enabled()
        and (a.requires_grad or b.requires_grad or (bias is not None and bias.requires_grad))
    )
    c, _ = _matmul_op(
        a,
        b,
        bias,
        residual,
        scale_a,
        scale_b,
        activation,
        precision,
        out_dtype or result_of(a.dtype),
        fast_accumulation,
        save_pre,
    )
    return c
