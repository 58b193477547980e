"""What the kernels cannot take is refused in one line that names it and the remedy."""

import importlib

import numpy as np
import pytest
import torch

from fuseproof.kernels.triton import attention, layer_norm, matmul

Q = torch.zeros(2, 4, 8, 64)
A, B = torch.zeros(3, 4), torch.zeros(4, 5)
X, W = torch.zeros(3, 8), torch.ones(8)


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
        "second derivatives are not written",
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
    "matmul-gradient": (
        lambda: matmul(A, B.clone().requires_grad_()),
        NotImplementedError,
        "backward is not written yet",
    ),
    "matmul-cpu": (lambda: matmul(A, B), NotImplementedError, "the tensors are on cpu"),
    "matmul-meta": (
        lambda: matmul(A.to("meta"), B.to("meta")),
        NotImplementedError,
        "the tensors are on meta",
    ),
    "layer_norm-scalar": (lambda: layer_norm(X[0, 0], W), ValueError, "last dimension"),
    "layer_norm-weight": (lambda: layer_norm(X, W[:7]), ValueError, r"weight must be of shape \(8,\)"),
    "layer_norm-weight-dtype": (lambda: layer_norm(X.bfloat16(), W.half()), TypeError, "weight is float16"),
    "layer_norm-residual": (lambda: layer_norm(X, W, residual=X[:1]), ValueError, "residual must be"),
    "layer_norm-residual-dtype": (
        lambda: layer_norm(X, W, residual=X.half()),
        TypeError,
        "residual is float16",
    ),
    "layer_norm-stride": (lambda: layer_norm(X.t().contiguous().t(), W), ValueError, r"x\.contiguous\(\)"),
    "layer_norm-rows": (
        lambda: layer_norm(torch.zeros(2, 3, 4, 8).transpose(0, 1), W),
        ValueError,
        "evenly spaced",
    ),
    "layer_norm-eps": (lambda: layer_norm(X, W, None, float("nan")), ValueError, "eps must be"),
    "layer_norm-gradient": (
        lambda: layer_norm(X, W.clone().requires_grad_()),
        NotImplementedError,
        "backward is not written yet",
    ),
    "layer_norm-cpu": (lambda: layer_norm(X, W), NotImplementedError, "the tensors are on cpu"),
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


@pytest.mark.parametrize("name", ["attention", "matmul", "layer_norm"])
def test_package_names_are_functions_and_modules_stay_importable(name):
    package = importlib.import_module("fuseproof.kernels.triton")
    module = importlib.import_module(f"fuseproof.kernels.triton.{name}")
    assert getattr(package, name) is getattr(module, name)
    assert callable(getattr(package, name))
