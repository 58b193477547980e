"""Scaled dot-product attention: softmax(q kᵀ / √d) v, per head."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.workloads.operators.base import Arrays, Operator, Sampled, in_threads, rms, sample

# Query rows whose scores are held at once by the reference: 1024 × 16384 float64 are 128 MiB.
_ROWS = 1024

# Query rows of a head the forward reference is computed for; gradients of keys need them all.
_SAMPLED_ROWS = 512

# Scores of all sampled heads together, where all rows are needed: a quarter of a billion take some seconds.
_SCORES = 1 << 28


class Attention(Operator):
    """q: (batch, query_heads, query_length, head_dim); k, v: (batch, key_value_heads, key_length, head_dim).

    Query head h reads key/value head h // (query_heads / key_value_heads). With `causal`, query i sees the
    keys j ≤ i (aligned at the start, PyTorch's `is_causal`).
    """

    name: ClassVar[str] = "attention"
    label_pattern: ClassVar[re.Pattern[str]] = re.compile(
        r"b(\d+)_h(\d+)(?:_kv(\d+))?_s(\d+)(?:_k(\d+))?_d(\d+)(_causal)?"
    )
    label_example: ClassVar[str] = "b1_h32_kv8_s512_d128_causal (k4096 after s for another key length)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "gpt2": "b1_h12_s1024_d64_causal",  # Radford et al. 2019, 124M
        "bert-base": "b8_h12_s128_d64",  # Devlin et al. 2018
        "vit-base": "b8_h12_s197_d64",  # Dosovitskiy et al. 2020, ViT-B/16 at 224 pixels
        "llama-3-8b": "b1_h32_kv8_s4096_d128_causal",  # Grattafiori et al. 2024
        "llama-3-8b-decode": "b8_h32_kv8_s1_k4096_d128",  # one new token against the cache
    }
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16", "tf32")

    batch: int
    query_heads: int
    key_value_heads: int
    query_length: int
    key_length: int
    head_dim: int
    causal: bool = False

    @property
    def label(self) -> str:
        grouped = f"_kv{self.key_value_heads}" if self.key_value_heads != self.query_heads else ""
        keys = f"_k{self.key_length}" if self.key_length != self.query_length else ""
        return (
            f"b{self.batch}_h{self.query_heads}{grouped}_s{self.query_length}{keys}_d{self.head_dim}"
            f"{'_causal' if self.causal else ''}"
        )

    @classmethod
    def _from_match(cls, match: re.Match[str]) -> Self:
        batch, heads, grouped, length, keys, dim, causal = match.groups()
        if grouped is not None and (int(grouped) == 0 or int(heads) % int(grouped) != 0):
            raise UserError(
                f"attention shape {match.string!r}: {heads} query heads are not a multiple of "
                f"{grouped} key/value heads"
            )
        return cls(
            batch=int(batch),
            query_heads=int(heads),
            key_value_heads=int(grouped or heads),
            query_length=int(length),
            key_length=int(keys or length),
            head_dim=int(dim),
            causal=causal is not None,
        )

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        keys = (self.batch, self.key_value_heads, self.key_length, self.head_dim)
        return {"q": self.output_shape, "k": keys, "v": keys}

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.query_heads, self.query_length, self.head_dim)

    @property
    def options(self) -> dict[str, object]:
        return {"causal": self.causal}

    def flops(self, pass_: str) -> int:
        # q kᵀ and p v: 2 products of 2·B·H·Sq·Sk·D; causal counts half, the convention of the literature.
        # Backward is 5 such products against 2 (FlashAttention-2, Dao 2023): × 2.5.
        forward = 4 * self.batch * self.query_heads * self.query_length * self.key_length * self.head_dim
        forward = forward // 2 if self.causal else forward
        return forward if pass_ == "forward" else forward * 7 // 2

    def reference(
        self,
        inputs: Arrays,
        cotangent: NDArray[np.float32] | None,
        generator: np.random.Generator | None = None,
    ) -> dict[str, Sampled]:
        generator = generator or np.random.default_rng()
        # A group is one key/value head with all query heads that read it: dk and dv sum over them.
        share = self.query_heads // self.key_value_heads
        count = 4
        if cotangent is not None:
            count = max(2, min(count, _SCORES // (share * self.query_length * self.key_length)))
        groups = sample(self.batch * self.key_value_heads, generator, count=count)
        batch = groups // self.key_value_heads
        key_heads = groups % self.key_value_heads
        query_batch = np.repeat(batch, share)
        query_heads = (key_heads[:, None] * share + np.arange(share)[None, :]).ravel()
        every_row = np.arange(self.query_length)
        rows = every_row
        if cotangent is None:
            rows = sample(self.query_length, generator, count=_SAMPLED_ROWS)
        query_index = (query_batch[:, None], query_heads[:, None], rows[None, :])
        key_index = (batch, key_heads)
        q = inputs["q"][query_index].astype(np.float64)
        k, v = (inputs[name][key_index].astype(np.float64) for name in ("k", "v"))
        do = None if cotangent is None else cotangent[query_index].astype(np.float64)

        output, dq = np.empty_like(q), np.empty_like(q)
        dk, dv = np.zeros_like(k), np.zeros_like(v)
        scale = self.head_dim**-0.5
        columns = np.arange(self.key_length)

        def attend(head: int, group: int) -> None:
            for start in range(0, len(rows), _ROWS):
                block = slice(start, start + _ROWS)
                # No row of a block sees more keys than its last.
                seen = slice(0, rows[block][-1] + 1 if self.causal else None)
                scores = q[head, block] @ k[group, seen].T * scale
                if self.causal:
                    scores[columns[seen] > rows[block, None]] = -np.inf
                p = np.exp(scores - scores.max(axis=-1, keepdims=True))
                p /= p.sum(axis=-1, keepdims=True)
                output[head, block] = p @ v[group, seen]
                if do is None:
                    continue
                dv[group, seen] += p.T @ do[head, block]
                delta = (do[head, block] * output[head, block]).sum(axis=-1, keepdims=True)
                ds = p * (do[head, block] @ v[group, seen].T - delta) * scale
                dq[head, block] = ds @ k[group, seen]
                dk[group, seen] += ds.T @ q[head, block]

        def attend_group(group: int) -> None:
            for head in range(group * share, (group + 1) * share):
                attend(head, group)

        in_threads(attend_group, range(len(groups)))
        sampled = {"output": Sampled(index=query_index, values=output)}
        if do is not None:
            dq_scale = dk_scale = None
            if self.key_length == 1:  # its softmax is 1 whatever q and k are: d − delta cancels
                d = scale * rms((do * v[np.arange(len(q)) // share]).sum(axis=-1))
                dq_scale, dk_scale = d * rms(k), d * rms(q)
            sampled["grad_q"] = Sampled(index=query_index, values=dq, scale=dq_scale)
            sampled["grad_k"] = Sampled(index=key_index, values=dk, scale=dk_scale)
            sampled["grad_v"] = Sampled(index=key_index, values=dv)
        return sampled
