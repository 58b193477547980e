"""Two layers of LSTM in Keras: fuseproof.workloads.blocks.lstm."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from fuseproof.fusion.blocks.keras.module import BlockLayer
from fuseproof.fusion.blocks.keras.parts import Parameters, Tensor
from fuseproof.workloads.blocks.lstm import LAYERS, LSTM


def lstm(**fields: Any) -> BlockLayer:
    block = LSTM(**fields)
    layers = [_layer(block) for _ in range(LAYERS)]

    def function(parameters: Parameters, x: Tensor) -> Tensor:
        for number, layer in enumerate(layers):
            # Beside the weights it has a count of random numbers, of which it draws none.
            others = [each.value for each in layer.non_trainable_variables]
            x, _ = layer.stateless_call(_weights(parameters, number), others, x)
        return x

    return BlockLayer(function, block)


def _layer(block: LSTM) -> Any:
    """Keras's own, whose weights it is given at each call."""
    zeros = dict.fromkeys(("kernel_initializer", "recurrent_initializer", "bias_initializer"), "zeros")
    layer = keras.layers.LSTM(block.hidden, return_sequences=True, **zeros)
    layer.build((block.batch, block.length, block.hidden))
    return layer


def _weights(p: Parameters, number: int) -> list[Tensor]:
    """Of a layer: Keras's matrices are (in, out), in the same order of gates, and it has one bias."""
    bias = p[f"input_{number}_bias"] + p[f"hidden_{number}_bias"]
    return [ops.transpose(p[f"input_{number}"]), ops.transpose(p[f"hidden_{number}"]), bias]
