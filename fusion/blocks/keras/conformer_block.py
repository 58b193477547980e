"""The Conformer block in Keras: fuseproof.workloads.blocks.conformer_block."""

from __future__ import annotations

from keras import ops

from fuseproof.fusion.blocks.keras.module import module_of
from fuseproof.fusion.blocks.keras.parts import Parameters, Tensor, layer_norm, linear, self_attention
from fuseproof.workloads.blocks.conformer_block import ConformerBlock


@module_of(ConformerBlock)
def conformer_block(parameters: Parameters, x: Tensor, *, heads: int) -> Tensor:
    p = parameters
    a = x + 0.5 * _feed(x, p, "first")
    b = a + self_attention(layer_norm(a, p, "attention_norm"), p, heads)
    c = b + _convolved(b, p)
    return layer_norm(c + 0.5 * _feed(c, p, "second"), p, "final_norm")


def _feed(x: Tensor, p: Parameters, name: str) -> Tensor:
    inner = ops.silu(linear(layer_norm(x, p, f"{name}_norm"), p, f"{name}_up"))
    return linear(inner, p, f"{name}_down")


def _convolved(x: Tensor, p: Parameters) -> Tensor:
    value, gate = ops.split(linear(layer_norm(x, p, "conv_norm"), p, "glu"), 2, axis=-1)
    kernel = p["depthwise"][:, :, None]  # (31, hidden, 1), as keras.layers.DepthwiseConv1D has it
    h = ops.depthwise_conv(
        value * ops.sigmoid(gate), kernel, strides=1, padding="same", data_format="channels_last"
    )
    return linear(ops.silu(layer_norm(h, p, "depthwise_norm")), p, "pointwise")
