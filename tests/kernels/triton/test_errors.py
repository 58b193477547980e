"""The kernels refuse unsupported arguments in one line that names the fault and the remedy."""

import importlib
from functools import partial

import numpy as np
import pytest
import torch

from fuseproof.kernels.triton import (
    attention,
    cross_entropy,
    layer_norm,
    matmul,
    rms_norm,
    rotary,
    softmax,
    swiglu,
)
from fuseproof.kernels.triton.ops.swiglu.api import silu_product

Q = torch.zeros(2, 4, 8, 64)
A, B, R, ONE = torch.zeros(3, 4), torch.zeros(4, 5), torch.zeros(3, 5), torch.ones(1)
A8, B8 = A.to(torch.float8_e4m3fn), B.to(torch.float8_e4m3fn)
X, W = torch.zeros(3, 8), torch.ones(8)
T, C = torch.zeros(3, dtype=torch.int64), torch.zeros(8, 32)


def second_derivative(q):
    (gradient,) = torch.autograd.grad(attention(q, q, q).sum(), q, create_graph=True)
    torch.autograd.grad(gradient.sum(), q)


CASES = {
    "attention-not-a-tensor": (lambda: attention(np.zeros(3), Q, Q), TypeError, "q must be a torch.Tensor"),
    "attention-integers": (lambda: attention(Q.int(), Q, Q), TypeError, "q has dtype int32; cast"),
    "attention-float64": (lambda: attention(Q.double(), Q, Q), TypeError, "q has dtype float64; cast"),
    "attention-mixed": (lambda: attention(Q, Q.half(), Q), TypeError, "k is float16"),
    "attention-devices": (lambda: attention(Q, Q.to("meta"), Q), ValueError, "k is meta"),
    "attention-three-dimensions": (lambda: attention(Q[0], Q, Q), ValueError, "q must be"),
    "attention-stride": (lambda: attention(Q, Q.mT.contiguous().mT, Q), ValueError, r"k\.contiguous\(\)"),
    "attention-row-stride": (
        lambda: attention(
            Q.to("meta"), torch.empty_strided(Q.shape, (0, 0, 2**25, 1), device="meta"), Q.to("meta")
        ),
        ValueError,
        "elements apart",
    ),
    "attention-k-and-v": (lambda: attention(Q, Q, Q[:, :, :5]), ValueError, "must have one shape"),
    "attention-batch": (lambda: attention(Q, Q[:1], Q[:1]), ValueError, "agree in batch"),
    "attention-head-dim": (
        lambda: attention(*[Q[..., :32]] * 3),
        ValueError,
        "head dimension 32 is not one of",
    ),
    "attention-heads": (lambda: attention(Q, Q[:, :3], Q[:, :3]), ValueError, "not a multiple of 3"),
    "attention-no-keys": (lambda: attention(Q, Q[:, :, :0], Q[:, :, :0]), ValueError, "at least one key"),
    "attention-scale": (lambda: attention(Q, Q, Q, scale=-1.0), ValueError, "scale must be positive"),
    "attention-second-derivative": (
        lambda: second_derivative(Q.to("meta").requires_grad_()),
        NotImplementedError,
        "second derivatives are not implemented",
    ),
    "attention-cpu": (
        lambda: attention(Q, Q, Q),
        NotImplementedError,
        "CUDA or ROCm GPU.*TRITON_INTERPRET=1",
    ),
    "matmul-shapes": (lambda: matmul(A, A), ValueError, r"\(K, N\), not \(3, 4\) and \(3, 4\)"),
    "matmul-vector": (lambda: matmul(A, B[:, 0]), ValueError, "b \\(K, N\\)"),
    "matmul-mixed": (lambda: matmul(A, B.bfloat16()), TypeError, "b is bfloat16"),
    "matmul-activation": (lambda: matmul(A, B, activation="tanh"), ValueError, "unknown activation 'tanh'"),
    "matmul-bias": (lambda: matmul(A, B, torch.zeros(4)), ValueError, r"shape \(5,\)"),
    "matmul-residual": (lambda: matmul(A, B, residual=torch.zeros(5)), ValueError, r"\(3, 5\), not \(5,\)"),
    "matmul-residual-dtype": (lambda: matmul(A, B, residual=R.half()), TypeError, "residual is float16 and"),
    "matmul-precision": (lambda: matmul(A, B, precision="fp32"), ValueError, "unknown precision 'fp32'"),
    "matmul-tf32-of-halves": (
        lambda: matmul(A.half(), B.half(), precision="tf32"),
        ValueError,
        "'tf32' is for float32 operands, and a is float16",
    ),
    "matmul-out-dtype": (lambda: matmul(A, B, out_dtype=torch.float16), TypeError, "another out_dtype"),
    "matmul-scale": (lambda: matmul(A, B, scale_a=ONE), ValueError, "scale_a is for float8 operands"),
    "matmul-fast": (lambda: matmul(A, B, fast_accumulation=True), ValueError, "fast_accumulation is for"),
    "matmul-float8-mixed": (lambda: matmul(A8, B), TypeError, "b is float32; cast them to one"),
    "matmul-float8-out-dtype": (
        lambda: matmul(A8, B8, out_dtype=torch.float64),
        TypeError,
        "out_dtype must be float16, bfloat16 or float32, not torch.float64",
    ),
    "matmul-float8-bias": (
        lambda: matmul(A8, B8, torch.zeros(5)),
        TypeError,
        "bias is float32 and the result bfloat16; cast bias",
    ),
    "matmul-float8-scale-dtype": (
        lambda: matmul(A8, B8, scale_a=ONE.half()),
        ValueError,
        "scale_a must be one float32 number in a tensor, not float16",
    ),
    "matmul-float8-scale-per-row": (
        lambda: matmul(A8, B8, scale_b=torch.ones(5)),
        ValueError,
        r"scale_b must be one float32 number in a tensor, not float32 of shape \(5,\)",
    ),
    "matmul-float8-gradient": (
        lambda: matmul(A8, B8, torch.zeros(5, dtype=torch.bfloat16, requires_grad=True)),
        NotImplementedError,
        "float8 operands have no backward",
    ),
    "matmul-cpu": (lambda: matmul(A, B), NotImplementedError, "the tensors are on cpu"),
    "cross-entropy-dimensions": (
        lambda: cross_entropy(X[None], T),
        ValueError,
        r"\(rows, vocabulary\), not \(1, 3, 8\)",
    ),
    "cross-entropy-targets": (
        lambda: cross_entropy(X, T.float()),
        TypeError,
        "int64 or int32, not float32",
    ),
    "cross-entropy-count": (lambda: cross_entropy(X, T[:2]), ValueError, r"targets must be of shape \(3,\)"),
    "cross-entropy-devices": (lambda: cross_entropy(X, T.to("meta")), ValueError, "targets is meta"),
    "cross-entropy-stride": (lambda: cross_entropy(X.t(), T[:1].expand(8)), ValueError, r"logits\.contig"),
    "cross-entropy-reduction": (
        lambda: cross_entropy(X, T, reduction="max"),
        ValueError,
        "unknown reduction 'max'; there are none, mean, sum",
    ),
    "cross-entropy-cpu": (lambda: cross_entropy(X, T), NotImplementedError, "the tensors are on cpu"),
    "rotary-dimensions": (lambda: rotary(Q[0], Q, W, W), ValueError, "q must be"),
    "rotary-mixed": (lambda: rotary(Q, Q.half(), C, C), TypeError, "k is float16"),
    "rotary-tables": (
        lambda: rotary(Q.half(), Q.half(), C.bfloat16(), C.bfloat16()),
        TypeError,
        "are bfloat16",
    ),
    "rotary-lengths": (lambda: rotary(Q, Q[:, :, :5], C, C), ValueError, "must agree in batch, length"),
    "rotary-odd": (lambda: rotary(Q[..., :5], Q[..., :5], C, C), ValueError, "must be even and at most 512"),
    "rotary-whole-tables": (
        lambda: rotary(Q, Q, torch.zeros(8, 64), C),
        ValueError,
        r"cos must be of shape \(8, 32\)",
    ),
    "rotary-stride": (lambda: rotary(Q.mT.contiguous().mT, Q, C, C), ValueError, r"q\.contiguous\(\)"),
    "rotary-gradient": (
        lambda: rotary(Q, Q, C, C.clone().requires_grad_()),
        NotImplementedError,
        r"sin gets no gradient; pass sin\.detach\(\)",
    ),
    "rotary-cpu": (lambda: rotary(Q, Q, C, C), NotImplementedError, "the tensors are on cpu"),
    "softmax-float64": (lambda: softmax(X.double()), TypeError, "x has dtype float64; cast"),
    "softmax-scalar": (lambda: softmax(X[0, 0]), ValueError, "last dimension of at least one"),
    "softmax-stride": (lambda: softmax(X.t()), ValueError, r"x\.contiguous\(\)"),
    "swiglu-mixed": (lambda: swiglu(A, B, B, B.t().half()), TypeError, "down is float16; cast them to one"),
    "swiglu-shapes": (
        lambda: swiglu(A, B, B, B),
        ValueError,
        r"not \(3, 4\), \(4, 5\), \(4, 5\) and \(4, 5\)",
    ),
    "swiglu-hidden": (lambda: swiglu(A[:, :3], B, B, B.t()), ValueError, r"not \(3, 3\), \(4, 5\)"),
    "swiglu-elements": (lambda: silu_product(A, A[:1]), ValueError, "must have one shape"),
    "swiglu-cpu": (lambda: swiglu(A, B, B, B.t()), NotImplementedError, "the tensors are on cpu"),
    "softmax-cpu": (lambda: softmax(X), NotImplementedError, "the tensors are on cpu"),
}
for norm in (layer_norm, rms_norm):
    CASES |= {
        f"{norm.__name__}-{case}": (partial(call, norm), error, message)
        for case, (call, error, message) in {
            "scalar": (lambda norm: norm(X[0, 0], W), ValueError, "last dimension"),
            "weight": (lambda norm: norm(X, W[:7]), ValueError, r"weight must be of shape \(8,\)"),
            "weight-dtype": (lambda norm: norm(X.bfloat16(), W.half()), TypeError, "weight is float16"),
            "residual": (lambda norm: norm(X, W, residual=X[:1]), ValueError, "residual must be"),
            "residual-dtype": (lambda norm: norm(X, W, residual=X.half()), TypeError, "residual is float16"),
            "stride": (lambda norm: norm(X.t().contiguous().t(), W), ValueError, r"x\.contiguous\(\)"),
            "rows": (
                lambda norm: norm(torch.zeros(2, 3, 4, 8).transpose(0, 1), W),
                ValueError,
                "evenly spaced",
            ),
            "eps": (lambda norm: norm(X, W, eps=float("nan")), ValueError, "eps must be"),
            "sum": (lambda norm: norm(X, W, return_sum=True), ValueError, "return_sum needs a residual"),
            "cpu": (lambda norm: norm(X, W), NotImplementedError, "the tensors are on cpu"),
        }.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_error(case):
    call, error, message = CASES[case]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_inputs_that_require_gradients_are_fine_without_autograd():
    with torch.no_grad(), pytest.raises(NotImplementedError, match="GPU"):
        matmul(A.clone().requires_grad_(), B)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("attention", "attention.api"),
        ("matmul", "matmul.api"),
        ("layer_norm", "norms.layer_norm"),
        ("rms_norm", "norms.rms_norm"),
        ("cross_entropy", "cross_entropy.api"),
        ("rotary", "rotary.api"),
        ("softmax", "softmax.api"),
        ("swiglu", "swiglu.api"),
    ],
)
def test_names_of_the_package_are_the_functions(name, module):
    package = importlib.import_module("fuseproof.kernels.triton")
    defined_in = importlib.import_module(f"fuseproof.kernels.triton.ops.{module}")
    assert getattr(package, name) is getattr(defined_in, name)
    assert callable(getattr(package, name))
