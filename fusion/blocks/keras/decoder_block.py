"""The transformer decoder block in Keras: fuseproof.workloads.blocks.decoder_block."""

from __future__ import annotations

from keras import ops

from fuseproof.fusion.blocks.keras.module import module_of
from fuseproof.fusion.blocks.keras.parts import Parameters, Tensor, linear, rms_norm
from fuseproof.workloads.blocks.decoder_block import DecoderBlock


@module_of(DecoderBlock)
def decoder_block(
    parameters: Parameters, x: Tensor, cos: Tensor, sin: Tensor, *, heads: int, key_value_heads: int
) -> Tensor:
    p, n = parameters, rms_norm(x, parameters, "attention_norm")
    q = _rotary(_heads(linear(n, p, "query"), heads), cos, sin)
    k = _rotary(_heads(linear(n, p, "key"), key_value_heads), cos, sin)
    v = _heads(linear(n, p, "value"), key_value_heads)
    attended = ops.dot_product_attention(q, _shared(k, heads), _shared(v, heads), is_causal=True)
    a = x + linear(ops.reshape(attended, x.shape), p, "out")
    m = rms_norm(a, p, "mlp_norm")
    return a + linear(ops.silu(linear(m, p, "gate")) * linear(m, p, "up"), p, "down")


def _heads(x: Tensor, heads: int) -> Tensor:
    """(batch, length, heads · head_dim) as Keras's attention takes it: (batch, length, heads, head_dim)."""
    batch, length, hidden = x.shape
    return ops.reshape(x, (batch, length, heads, hidden // heads))


def _shared(x: Tensor, heads: int) -> Tensor:
    """Each head of keys or values as often as there are queries that share it."""
    return x if x.shape[2] == heads else ops.repeat(x, heads // x.shape[2], axis=2)


def _rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Halves turned by these angles; Keras has no call for it. x: (batch, length, heads, head_dim)."""
    one, two = ops.split(x, 2, axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    return ops.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1)
