"""Flash attention on TPU: softmax(q kᵀ · scale) v per head, without the matrix of scores in memory.

q, o: (batch, heads, length, head dim); k, v: (batch, key/value heads, key length, head dim), the layout
`bhsd`; float32 or bfloat16, all of one dtype, any lengths. Query head h reads key/value head h // (heads /
key/value heads). With `causal`, query i sees the keys j ≤ i.

    s = k qᵀ · scale,  m = max s,  p = exp(s − m),  l = Σ p,  o = vᵀ p / l,  lse = m + log l     (over keys)
    p = exp(s − lse),  δ = Σ do · o,  ds = p · (v doᵀ − δ),
    dv = p do,  dk = ds q · scale,  dq = dsᵀ k · scale

Scores are held transposed, keys along the sublanes and queries along the lanes: maxima and sums over keys are
then elementwise operations on registers, the statistics of a block of queries are one row of lanes, and so
lse is stored without padding to 128 lanes. Statistics and accumulators are float32; p and ds are rounded to
the input dtype for the matrix unit, as XLA's own attention does.

Sources: Dao et al. 2022, https://arxiv.org/abs/2205.14135; backward in two kernels: Dao 2023,
https://arxiv.org/abs/2307.08691; online softmax: Milakov and Gimelshein 2018,
https://arxiv.org/abs/1805.02867.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from fuseproof.kernels.pallas.launch import LANES, VMEM_BYTES, call, check, dot, keep, once

# Stands for −∞: differences of two of them must be 0, not NaN.
HIDDEN = -0.7 * float(jnp.finfo(jnp.float32).max)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Block of queries and of keys, multiples of 128; shorter lengths take the next multiple of 128."""

    BLOCK_Q: int
    BLOCK_K: int


# The first legal config is taken: long blocks of queries read keys and values less often. Not yet measured.
CONFIGS = (
    Config(BLOCK_Q=1024, BLOCK_K=512),
    Config(BLOCK_Q=512,  BLOCK_K=512),
    Config(BLOCK_Q=256,  BLOCK_K=512),
    Config(BLOCK_Q=256,  BLOCK_K=256),
    Config(BLOCK_Q=128,  BLOCK_K=128),
)  # fmt: skip


def is_legal(config: Config, itemsize: int, head_dim: int) -> bool:
    """Whether the largest kernel, backward for k and v, fits: scores, p, dp, ds at once; q, do, k, v, dk,
    dv twice (one is fetched while one is used); two float32 accumulators."""
    q, k, d = config.BLOCK_Q, config.BLOCK_K, -(-head_dim // LANES) * LANES
    scores = q * k * (3 * 4 + 2 * itemsize)
    tiles = 2 * itemsize * d * (2 * q + 4 * k) + 2 * 4 * k * d
    return scores + tiles <= VMEM_BYTES * 3 // 4  # the rest is for what the compiler spills


def choose_blocks(query_length: int, key_length: int, itemsize: int, head_dim: int) -> tuple[int, int]:
    """Blocks of queries and keys. Raises NotImplementedError for a head dim that no config fits."""
    legal = next((config for config in CONFIGS if is_legal(config, itemsize, head_dim)), None)
    if legal is None:
        raise NotImplementedError(f"attention: head dim {head_dim} does not fit in VMEM")
    queries, keys = (-(-length // LANES) * LANES for length in (query_length, key_length))
    return min(legal.BLOCK_Q, queries), min(legal.BLOCK_K, keys)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Sizes and options that all three kernels need; lengths are those of the tensors."""

    query_length: int
    key_length: int
    BLOCK_Q: int
    BLOCK_K: int
    share: int  # query heads for each key/value head
    causal: bool
    scale: float

    @property
    def query_blocks(self) -> int:
        return -(-self.query_length // self.BLOCK_Q)

    @property
    def key_blocks(self) -> int:
        return -(-self.key_length // self.BLOCK_K)

    def sees(self, query_block: Any, key_block: Any) -> Any:
        """Whether any query of the one block sees any key of the other."""
        last_query = query_block * self.BLOCK_Q + self.BLOCK_Q - 1
        return last_query >= key_block * self.BLOCK_K if self.causal else True

    # `lax.div`, not `//`: `//` asks for the kind of the default device, ahead of time not a TPU.
    def key_head(self, head: Any) -> Any:
        return jax.lax.div(head, jnp.int32(self.share))

    # A block that is not computed is not fetched either: its index is that of a neighbour already there.
    def key_index(self, query_block: Any, key_block: Any) -> Any:
        last = jax.lax.div(query_block * self.BLOCK_Q + self.BLOCK_Q - 1, jnp.int32(self.BLOCK_K))
        return jnp.minimum(key_block, last) if self.causal else key_block

    def query_index(self, query_block: Any, key_block: Any) -> Any:
        first = jax.lax.div(key_block * self.BLOCK_K, jnp.int32(self.BLOCK_Q))
        first = jnp.minimum(first, self.query_blocks - 1)
        return jnp.maximum(query_block, first) if self.causal else query_block

    def hide(self, scores: Array, query_block: Any, key_block: Any, fill: float) -> Array:
        """Scores with `fill` where a key is past the end or not yet visible; (BLOCK_K, BLOCK_Q)."""
        key = key_block * self.BLOCK_K + jax.lax.broadcasted_iota(jnp.int32, scores.shape, 0)
        visible = key < self.key_length
        if self.causal:
            query = query_block * self.BLOCK_Q + jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)
            visible &= key <= query
        elif self.key_length % self.BLOCK_K == 0:
            return scores
        return jnp.where(visible, scores, fill)


def forward_kernel(
    q_ref: Any,  # (BLOCK_Q, d)
    k_ref: Any,  # (BLOCK_K, d)
    v_ref: Any,  # (BLOCK_K, d)
    o_ref: Any,  # (BLOCK_Q, d)
    *refs: Any,  # [lse: (1, BLOCK_Q) float32], accumulator: (d, BLOCK_Q), m, l: (1, BLOCK_Q) float32
    problem: Problem,
) -> None:
    *lse_refs, accumulator_ref, m_ref, l_ref = refs
    query_block, key_block = pl.program_id(2), pl.program_id(3)

    @pl.when(key_block == 0)
    def _() -> None:
        accumulator_ref[...] = jnp.zeros_like(accumulator_ref)
        m_ref[...] = jnp.full_like(m_ref, HIDDEN)
        l_ref[...] = jnp.zeros_like(l_ref)

    @pl.when(problem.sees(query_block, key_block))
    def _() -> None:
        scores = dot(k_ref[...], q_ref[...], (1, 1)) * problem.scale
        scores = problem.hide(scores, query_block, key_block, HIDDEN)
        m = jnp.maximum(m_ref[...], jnp.max(scores, axis=0, keepdims=True))
        p = jnp.exp(scores - m)
        rescale = jnp.exp(m_ref[...] - m)
        l_ref[...] = l_ref[...] * rescale + jnp.sum(p, axis=0, keepdims=True)
        m_ref[...] = m
        v = keep(v_ref[...], 0, key_block * problem.BLOCK_K, problem.key_length)
        accumulator_ref[...] = accumulator_ref[...] * rescale + dot(v, p.astype(v.dtype), (0, 0))

    @pl.when(key_block == problem.key_blocks - 1)
    def _() -> None:
        o_ref[...] = (accumulator_ref[...] / l_ref[...]).T.astype(o_ref.dtype)
        for lse_ref in lse_refs:
            lse_ref[...] = m_ref[...] + jnp.log(l_ref[...])


def _p_and_ds(
    q: Array,
    k: Array,
    v: Array,
    do: Array,
    lse: Array,
    delta: Array,
    where: tuple[Any, Any],
    problem: Problem,
) -> tuple[Array, Array]:
    """p and ds of one block, (BLOCK_K, BLOCK_Q) float32, zero where a key is hidden."""
    scores = dot(k, q, (1, 1)) * problem.scale
    p = problem.hide(jnp.exp(scores - lse), *where, 0.0)
    # Hidden again: values past the end of v are arbitrary, and 0 times one of them need not be 0.
    return p, problem.hide(p * (dot(v, do, (1, 1)) - delta), *where, 0.0)


def dq_kernel(
    q_ref: Any,  # (BLOCK_Q, d)
    k_ref: Any,  # (BLOCK_K, d)
    v_ref: Any,  # (BLOCK_K, d)
    do_ref: Any,  # (BLOCK_Q, d)
    lse_ref: Any,  # (1, BLOCK_Q) float32
    delta_ref: Any,  # (1, BLOCK_Q) float32
    dq_ref: Any,  # (BLOCK_Q, d)
    accumulator_ref: Any,  # (BLOCK_Q, d) float32
    *,
    problem: Problem,
) -> None:
    query_block, key_block = pl.program_id(2), pl.program_id(3)

    @pl.when(key_block == 0)
    def _() -> None:
        accumulator_ref[...] = jnp.zeros_like(accumulator_ref)

    @pl.when(problem.sees(query_block, key_block))
    def _() -> None:
        k = keep(k_ref[...], 0, key_block * problem.BLOCK_K, problem.key_length)
        where = (query_block, key_block)
        _, ds = _p_and_ds(
            q_ref[...], k, v_ref[...], do_ref[...], lse_ref[...], delta_ref[...], where, problem
        )
        accumulator_ref[...] += dot(ds.astype(k.dtype), k, (0, 0))

    @pl.when(key_block == problem.key_blocks - 1)
    def _() -> None:
        dq_ref[...] = (accumulator_ref[...] * problem.scale).astype(dq_ref.dtype)


def dkv_kernel(
    q_ref: Any,  # (BLOCK_Q, d)
    k_ref: Any,  # (BLOCK_K, d)
    v_ref: Any,  # (BLOCK_K, d)
    do_ref: Any,  # (BLOCK_Q, d)
    lse_ref: Any,  # (1, BLOCK_Q) float32
    delta_ref: Any,  # (1, BLOCK_Q) float32
    dk_ref: Any,  # (BLOCK_K, d)
    dv_ref: Any,  # (BLOCK_K, d)
    dk_accumulator_ref: Any,  # (BLOCK_K, d) float32
    dv_accumulator_ref: Any,  # (BLOCK_K, d) float32
    *,
    problem: Problem,
) -> None:
    key_block, head, query_block = pl.program_id(2), pl.program_id(3), pl.program_id(4)

    @pl.when((head == 0) & (query_block == 0))
    def _() -> None:
        dk_accumulator_ref[...] = jnp.zeros_like(dk_accumulator_ref)
        dv_accumulator_ref[...] = jnp.zeros_like(dv_accumulator_ref)

    @pl.when(problem.sees(query_block, key_block))
    def _() -> None:
        start = query_block * problem.BLOCK_Q
        q, do = (keep(ref[...], 0, start, problem.query_length) for ref in (q_ref, do_ref))
        lse, delta = (keep(ref[...], 1, start, problem.query_length) for ref in (lse_ref, delta_ref))
        p, ds = _p_and_ds(q, k_ref[...], v_ref[...], do, lse, delta, (query_block, key_block), problem)
        # Queries past the end have do = 0 and δ = 0, so that their p, though not 0, adds nothing.
        dv_accumulator_ref[...] += dot(p.astype(do.dtype), do, (1, 0))
        dk_accumulator_ref[...] += dot(ds.astype(q.dtype), q, (1, 0))

    @pl.when((head == problem.share - 1) & (query_block == problem.query_blocks - 1))
    def _() -> None:
        dk_ref[...] = (dk_accumulator_ref[...] * problem.scale).astype(dk_ref.dtype)
        dv_ref[...] = dv_accumulator_ref[...].astype(dv_ref.dtype)


def describe(q: Array, k: Array, causal: bool, scale: float) -> Problem:
    block_q, block_k = choose_blocks(q.shape[2], k.shape[2], q.dtype.itemsize, q.shape[3])
    return Problem(
        query_length=q.shape[2],
        key_length=k.shape[2],
        BLOCK_Q=block_q,
        BLOCK_K=block_k,
        share=q.shape[1] // k.shape[1],
        causal=causal,
        scale=scale,
    )


def cost(q: Array, k: Array, causal: bool, products: int, *tensors: Any) -> pl.CostEstimate:
    """`products` products of 2·B·H·Sq·Sk·D each, half of it if causal; every tensor is moved once."""
    batch, heads, queries, d = q.shape
    scores = batch * heads * queries * k.shape[2] // (2 if causal else 1)
    return pl.CostEstimate(
        flops=2 * products * scores * d, transcendentals=scores, bytes_accessed=once(*tensors)
    )


def launch_forward(
    q: Array, k: Array, v: Array, causal: bool, scale: float, keep_lse: bool
) -> tuple[Array, ...]:
    """o, and lse with `keep_lse`: (batch, heads, 1, length) float32."""
    batch, heads, length, d = q.shape
    problem = describe(q, k, causal, scale)
    q_spec = pl.BlockSpec((None, None, problem.BLOCK_Q, d), lambda b, h, i, j: (b, h, i, 0))
    k_spec = pl.BlockSpec(
        (None, None, problem.BLOCK_K, d),
        lambda b, h, i, j: (b, problem.key_head(h), problem.key_index(i, j), 0),
    )
    lse_spec = pl.BlockSpec((None, None, 1, problem.BLOCK_Q), lambda b, h, i, j: (b, h, 0, i))
    outputs = [jax.ShapeDtypeStruct(q.shape, q.dtype)]
    outputs += [jax.ShapeDtypeStruct((batch, heads, 1, length), jnp.float32)] * keep_lse
    row = pltpu.VMEM((1, problem.BLOCK_Q), jnp.float32)
    result = call(
        functools.partial(forward_kernel, problem=problem),
        q,
        k,
        v,
        grid=(batch, heads, problem.query_blocks, problem.key_blocks),
        in_specs=[q_spec, k_spec, k_spec],
        out_specs=[q_spec, lse_spec][: len(outputs)],
        out_shape=outputs,
        scratch=[pltpu.VMEM((d, problem.BLOCK_Q), jnp.float32), row, row],
        semantics=("parallel", "parallel", "parallel", "arbitrary"),
        cost=cost(q, k, causal, 2, q, k, v, *outputs),
        name="attention_forward",
    )
    return tuple(result)


def launch_dq(
    q: Array, k: Array, v: Array, do: Array, lse: Array, delta: Array, causal: bool, scale: float
) -> Array:
    batch, heads, _, d = q.shape
    problem = describe(q, k, causal, scale)
    q_spec = pl.BlockSpec((None, None, problem.BLOCK_Q, d), lambda b, h, i, j: (b, h, i, 0))
    k_spec = pl.BlockSpec(
        (None, None, problem.BLOCK_K, d),
        lambda b, h, i, j: (b, problem.key_head(h), problem.key_index(i, j), 0),
    )
    row_spec = pl.BlockSpec((None, None, 1, problem.BLOCK_Q), lambda b, h, i, j: (b, h, 0, i))
    result: Array = call(
        functools.partial(dq_kernel, problem=problem),
        q,
        k,
        v,
        do,
        lse,
        delta,
        grid=(batch, heads, problem.query_blocks, problem.key_blocks),
        in_specs=[q_spec, k_spec, k_spec, q_spec, row_spec, row_spec],
        out_specs=q_spec,
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        scratch=[pltpu.VMEM((problem.BLOCK_Q, d), jnp.float32)],
        semantics=("parallel", "parallel", "parallel", "arbitrary"),
        cost=cost(q, k, causal, 3, q, k, v, do, lse, delta, q),
        name="attention_dq",
    )
    return result


def launch_dkv(
    q: Array, k: Array, v: Array, do: Array, lse: Array, delta: Array, causal: bool, scale: float
) -> tuple[Array, Array]:
    """dk and dv, summed over the query heads that read the same key/value head."""
    batch, key_heads, _, d = k.shape
    problem = describe(q, k, causal, scale)

    def queries(b: Any, h: Any, j: Any, head: Any, i: Any) -> tuple[Any, Any, Any]:
        return b, h * problem.share + head, problem.query_index(i, j)

    q_spec = pl.BlockSpec((None, None, problem.BLOCK_Q, d), lambda *at: (*queries(*at), 0))
    k_spec = pl.BlockSpec((None, None, problem.BLOCK_K, d), lambda b, h, j, head, i: (b, h, j, 0))
    row_spec = pl.BlockSpec(
        (None, None, 1, problem.BLOCK_Q), lambda *at: (*queries(*at)[:2], 0, queries(*at)[2])
    )
    accumulator = pltpu.VMEM((problem.BLOCK_K, d), jnp.float32)
    dk, dv = call(
        functools.partial(dkv_kernel, problem=problem),
        q,
        k,
        v,
        do,
        lse,
        delta,
        grid=(batch, key_heads, problem.key_blocks, problem.share, problem.query_blocks),
        in_specs=[q_spec, k_spec, k_spec, q_spec, row_spec, row_spec],
        out_specs=[k_spec, k_spec],
        out_shape=[jax.ShapeDtypeStruct(k.shape, k.dtype)] * 2,
        scratch=[accumulator, accumulator],
        semantics=("parallel", "parallel", "parallel", "arbitrary", "arbitrary"),
        cost=cost(q, k, causal, 4, q, k, v, do, lse, delta, k, v),
        name="attention_dkv",
    )
    return dk, dv


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _attention(q: Array, k: Array, v: Array, causal: bool, scale: float) -> Array:
    return launch_forward(q, k, v, causal, scale, keep_lse=False)[0]


def _forward(q: Array, k: Array, v: Array, causal: bool, scale: float) -> tuple[Array, Any]:
    o, lse = launch_forward(q, k, v, causal, scale, keep_lse=True)
    return o, (q, k, v, o, lse)


def _backward(causal: bool, scale: float, saved: Any, do: Array) -> tuple[Array, Array, Array]:
    q, k, v, o, lse = saved
    # Elementwise and a sum: XLA makes one fusion of it.
    delta = jnp.sum(do.astype(jnp.float32) * o.astype(jnp.float32), axis=-1)[:, :, None, :]
    dq = launch_dq(q, k, v, do, lse, delta, causal, scale)
    return dq, *launch_dkv(q, k, v, do, lse, delta, causal, scale)


_attention.defvjp(_forward, _backward)


def attention(q: Array, k: Array, v: Array, *, causal: bool = False, scale: float | None = None) -> Array:
    """softmax(q kᵀ · scale) v, per head.

    Args:
        q: (batch, heads, length, head dim), float32 (IEEE) or bfloat16.
        k, v: (batch, key/value heads, key length, head dim), of q's dtype; heads a multiple of theirs.
        causal: query i sees the keys j ≤ i.
        scale: 1/√(head dim) if None.

    Returns shape and dtype of q. Differentiable once, in reverse. Runs on TPUs; interpreted on CPUs.
    Raises ValueError, TypeError, and NotImplementedError for a head dim that does not fit in VMEM.
    """
    check("attention", {"q": q, "k": k, "v": v}, dimensions=4)
    if k.shape != v.shape or (q.shape[0], q.shape[3]) != (k.shape[0], k.shape[3]):
        raise ValueError(
            f"attention: shapes {q.shape}, {k.shape}, {v.shape} do not match; the layout is bhsd"
        )
    if q.shape[1] % k.shape[1]:
        raise ValueError(
            f"attention: {q.shape[1]} query heads are not a multiple of {k.shape[1]} key/value heads"
        )
    return _attention(q, k, v, causal, q.shape[3] ** -0.5 if scale is None else scale)
