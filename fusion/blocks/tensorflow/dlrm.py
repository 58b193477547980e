"""The recommendation model in TensorFlow: fuseproof.workloads.blocks.dlrm."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from fuseproof.fusion.blocks.tensorflow.module import module_of
from fuseproof.fusion.blocks.tensorflow.parts import Parameters, Tensor, linear
from fuseproof.workloads.blocks.dlrm import DLRM


@module_of(DLRM)
def dlrm(parameters: Parameters, x: Tensor, indices: Tensor) -> Tensor:
    p = parameters
    bottom = linear(tf.nn.silu(linear(x, p, "bottom_0")), p, "bottom_1")
    tables = range(indices.shape[1])
    rows = [tf.nn.embedding_lookup(p[f"table_{number}"], indices[:, number]) for number in tables]
    vectors = tf.stack([bottom, *rows], axis=1)
    count = vectors.shape[1]
    products = tf.reshape(tf.matmul(vectors, vectors, transpose_b=True), [-1, count * count])
    i, j = np.tril_indices(count, k=-1)
    together = tf.concat([bottom, tf.gather(products, i * count + j, axis=1)], axis=1)
    return linear(tf.nn.silu(linear(together, p, "top_0")), p, "top_1")[:, 0]
