"""Cross entropy of logits and the indices of the right classes: the loss of language models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.operators.base import Arrays, Sampled, in_threads, rms, sample
from fuseproof.workloads.operators.extents import Extents
from fuseproof.workloads.tensor import INDEX, Tensor
from fuseproof.workloads.trees import OUTPUT

# Rows whose logits are held at once in float64 by the reference of a mean: 64 × 128,256 are 63 MiB.
_ROWS = 64

# Standard deviation of the logits. Those of 1 make every probability about 1 / vocabulary: beside the −1 of
# the right class they would be rounding, and a gradient without its softmax would pass.
_SPREAD = 3.0


class CrossEntropy(Extents):
    """loss = log Σ exp(logits) − logits[target], of each row, or with `mean` their mean.

    logits: (rows, vocabulary); targets: (rows,), indices. The loss is float32 in a case of any dtype, as
    model code has it: bfloat16 holds three digits.
    """

    name: ClassVar[str] = "cross_entropy"
    label_example: ClassVar[str] = "4096x128256 (rows x vocabulary) or 4096x128256_mean"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "gpt2": "1024x50257_mean",  # Radford et al. 2019: one context of 1024 tokens
        "bert-base": "1024x30522_mean",  # Devlin et al. 2018: 8 sentences of 128 tokens
        "llama-2-7b": "4096x32000_mean",  # Touvron et al. 2023: one context of 4096 tokens
        "llama-3-8b": "4096x128256_mean",  # Grattafiori et al. 2024
    }
    input_dtypes: ClassVar[Mapping[str, str]] = {"targets": INDEX}

    rows: int
    vocabulary: int
    mean: bool = False

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"logits": (self.rows, self.vocabulary), "targets": (self.rows,)}

    @property
    def output_shape(self) -> tuple[int, ...]:
        return () if self.mean else (self.rows,)

    @property
    def outputs_by_name(self) -> Mapping[str, Tensor]:
        return {OUTPUT: Tensor(shape=self.output_shape, dtype="float32")}

    @property
    def options(self) -> dict[str, object]:
        return {"reduction": "mean" if self.mean else "none"}

    def reason_against(self, dtype: str, pass_: str) -> str | None:
        if self.mean and pass_ == "forward" and dtype != "float32":
            # What the limit of these dtypes allows is more than such a mean varies from draw to draw.
            return (
                f"in {dtype} any constant near it passes for a mean of rows; measure the losses of rows "
                f"({self.rows}x{self.vocabulary}), or forward_backward, where the gradient is compared"
            )
        return super().reason_against(dtype, pass_)

    def flops(self, pass_: str) -> int:
        # Per element, forward: maximum 1, difference 1, exponential 1, sum 1. Backward: difference 1,
        # exponential 1, product 1.
        return self.rows * self.vocabulary * (4 if pass_ == "forward" else 7)

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
        if name == "targets":
            return generator.integers(self.vocabulary, size=shape)
        values: NDArray[np.float32] = super().draw(name, shape, generator)
        return values * np.float32(_SPREAD)

    def reference(
        self,
        inputs: Arrays,
        cotangent: NDArray[np.float32] | None,
        generator: np.random.Generator | None = None,
    ) -> dict[str, Sampled]:
        rows, every = sample(self.rows, generator or np.random.default_rng()), slice(None)
        losses, p = self._losses(inputs, rows)
        # One class is certain whatever its logit is: the loss is that logit minus itself.
        certain = self.vocabulary == 1
        scale = rms(inputs["logits"][rows].astype(np.float64)) if certain else None
        if self.mean:
            sampled = {OUTPUT: Sampled(index=(), values=np.asarray(self._mean(inputs)), scale=scale)}
        else:
            sampled = {OUTPUT: Sampled(index=(rows,), values=losses, scale=scale)}
        if cotangent is not None:
            p[np.arange(len(rows)), inputs["targets"][rows]] -= 1
            exact = cotangent.astype(np.float64)
            d = np.full(len(rows), exact / self.rows) if self.mean else exact[rows]
            sampled["grad_logits"] = Sampled(
                index=(rows, every), values=p * d[:, None], scale=rms(d) if certain else None
            )
        return sampled

    def _losses(
        self, inputs: Arrays, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The losses and the probabilities of these rows."""
        x = inputs["logits"][rows].astype(np.float64)
        right = x[np.arange(len(rows)), inputs["targets"][rows]]
        most = x.max(axis=-1)
        p = np.exp(x - most[:, None])
        total = p.sum(axis=-1)
        return most - right + np.log(total), p / total[:, None]

    def _mean(self, inputs: Arrays) -> np.float64:
        losses = np.empty(self.rows)

        def fill(start: int) -> None:
            block = np.arange(start, min(start + _ROWS, self.rows))
            losses[block] = self._losses(inputs, block)[0]

        in_threads(fill, range(0, self.rows, _ROWS))
        return np.float64(losses.mean())
