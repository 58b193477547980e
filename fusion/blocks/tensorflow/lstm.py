"""Two layers of LSTM in TensorFlow, a scan over the steps: fuseproof.workloads.blocks.lstm."""

from __future__ import annotations

import tensorflow as tf

from fuseproof.fusion.blocks.tensorflow.module import module_of
from fuseproof.fusion.blocks.tensorflow.parts import Parameters, Tensor
from fuseproof.workloads.blocks.lstm import LAYERS, LSTM


@module_of(LSTM)
def lstm(parameters: Parameters, x: Tensor) -> Tensor:
    h = tf.transpose(x, [1, 0, 2])
    for layer in range(LAYERS):
        names = (f"{name}_{layer}{end}" for name in ("input", "hidden") for end in ("", "_bias"))
        h = _layer(h, *(parameters[name] for name in names))
    return tf.transpose(h, [1, 0, 2])


def _layer(x: Tensor, into: Tensor, into_bias: Tensor, hidden: Tensor, hidden_bias: Tensor) -> Tensor:
    """x: (length, batch, hidden). The products with the inputs of all steps are one."""

    def step(state: tuple[Tensor, Tensor], given: Tensor) -> tuple[Tensor, Tensor]:
        h, c = state
        gates = tf.nn.bias_add(given + tf.matmul(h, hidden, transpose_b=True), hidden_bias)
        i, f, g, o = tf.split(gates, 4, axis=-1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c

    zeros = tf.zeros_like(x[0])
    of_inputs = tf.nn.bias_add(tf.matmul(x, into, transpose_b=True), into_bias)
    found, _ = tf.scan(step, of_inputs, initializer=(zeros, zeros))
    return found
