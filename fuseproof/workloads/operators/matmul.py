"""Matrix product, plain or with the bias and GELU that follow it in a transformer's feed-forward layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.operators.base import Arrays, Sampled, sample
from fuseproof.workloads.operators.extents import Extents

# Columns of the result the forward reference is computed for; gradients of a need them all.
_COLUMNS = 4096


class Matmul(Extents):
    """a: (m, k), b: (k, n); with `bias_gelu_tanh` gelu(a b + bias), bias: (n,), GELU by its tanh form."""

    name: ClassVar[str] = "matmul"
    label_example: ClassVar[str] = "128x768x3072 (M x K x N) or 128x768x3072_bias_gelu_tanh"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "gpt2-mlp": "1024x768x3072_bias_gelu_tanh",  # one context of 1024 tokens
        "gpt2-projection": "1024x768x768",
        "bert-base-mlp": "1024x768x3072_bias_gelu_tanh",  # 8 sentences of 128 tokens
        "vit-base-mlp": "1576x768x3072_bias_gelu_tanh",  # 8 images of 197 tokens
        "llama-3-8b-up": "2048x4096x14336",
        "llama-3-8b-decode": "8x4096x14336",
    }
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16", "tf32", "float8_e4m3")

    m: int
    k: int
    n: int
    bias_gelu_tanh: bool = False

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"a": (self.m, self.k), "b": (self.k, self.n)}
        return {**shapes, "bias": (self.n,)} if self.bias_gelu_tanh else shapes

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.m, self.n)

    @property
    def options(self) -> dict[str, object]:
        return {"activation": "gelu_tanh"} if self.bias_gelu_tanh else {}

    def reason_against(self, dtype: str, pass_: str) -> str | None:
        if dtype == "float8_e4m3" and (pass_ != "forward" or self.bias_gelu_tanh):
            return "float8_e4m3 products are plain and forward only: no framework gives them a gradient"
        return super().reason_against(dtype, pass_)

    def in_order(self, inputs: Arrays, dtype: str) -> Arrays:
        if dtype != "float8_e4m3":
            return inputs
        # b as a weight of (n, k) that is passed transposed: NVIDIA's 8-bit products read no other order.
        return {**inputs, "b": np.asfortranarray(inputs["b"])}

    def flops(self, pass_: str) -> int:
        # 2·M·N·K per product; backward is two products, da = dc bᵀ and db = aᵀ dc. The epilogue's O(M·N) is
        # not counted, as in the literature.
        product = 2 * self.m * self.n * self.k
        return product if pass_ == "forward" else 3 * product

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
        values = super().draw(name, shape, generator)
        # Weights of variance 1/K keep the product near unit variance, where GELU is not just linear.
        return values * np.float32(self.k**-0.5) if name == "b" else values

    def reference(
        self,
        inputs: Arrays,
        cotangent: NDArray[np.float32] | None,
        generator: np.random.Generator | None = None,
    ) -> dict[str, Sampled]:
        generator = generator or np.random.default_rng()
        rows, columns = sample(self.m, generator), sample(self.n, generator)
        every = slice(None)
        a, b = inputs["a"], inputs["b"]
        bias = inputs.get("bias", np.zeros(self.n, np.float32)).astype(np.float64)

        a_rows = a[rows].astype(np.float64)
        if cotangent is None:
            # The whole of a large b in float64 would take longer than all that is measured with it.
            few = sample(self.n, generator, count=_COLUMNS)
            product = a_rows @ b[:, few].astype(np.float64) + bias[few]
            output = _gelu_tanh(product) if self.bias_gelu_tanh else product
            return {"output": Sampled(index=(rows[:, None], few[None, :]), values=output)}
        b64 = b.astype(np.float64)
        row_product = a_rows @ b64 + bias
        output = _gelu_tanh(row_product) if self.bias_gelu_tanh else row_product
        sampled = {"output": Sampled(index=(rows, every), values=output)}

        # da needs whole rows of the cotangent, db and dbias whole columns.
        d_rows = cotangent[rows].astype(np.float64)
        d_columns = cotangent[:, columns].astype(np.float64)
        a64, b_columns = a.astype(np.float64), b64[:, columns]
        if self.bias_gelu_tanh:
            d_rows *= _gelu_tanh_derivative(row_product)
            d_columns *= _gelu_tanh_derivative(a64 @ b_columns + bias[columns])
            sampled["grad_bias"] = Sampled(index=(columns,), values=d_columns.sum(axis=0))
        sampled["grad_a"] = Sampled(index=(rows, every), values=d_rows @ b64.T)
        sampled["grad_b"] = Sampled(index=(every, columns), values=a64.T @ d_columns)
        return sampled


# GELU's tanh form (Hendrycks & Gimpel 2016): x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))
_SLOPE = np.sqrt(2 / np.pi)


def _gelu_tanh(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * x * (1 + np.tanh(_SLOPE * (x + 0.044715 * x**3))))


def _gelu_tanh_derivative(x: NDArray[np.float64]) -> NDArray[np.float64]:
    t = np.tanh(_SLOPE * (x + 0.044715 * x**3))
    return np.asarray(0.5 * (1 + t) + 0.5 * x * (1 - t**2) * _SLOPE * (1 + 3 * 0.044715 * x**2))
