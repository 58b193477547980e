"""The recommendation model in Keras: fuseproof.workloads.blocks.dlrm."""

from __future__ import annotations

import numpy as np
from keras import ops

from fuseproof.fusion.blocks.keras.module import module_of
from fuseproof.fusion.blocks.keras.parts import Parameters, Tensor, linear
from fuseproof.workloads.blocks.dlrm import DLRM


@module_of(DLRM)
def dlrm(parameters: Parameters, x: Tensor, indices: Tensor) -> Tensor:
    p = parameters
    bottom = linear(ops.silu(linear(x, p, "bottom_0")), p, "bottom_1")
    rows = [ops.take(p[f"table_{table}"], indices[:, table], axis=0) for table in range(indices.shape[1])]
    vectors = ops.stack([bottom, *rows], axis=1)
    count = vectors.shape[1]
    products = ops.matmul(vectors, ops.transpose(vectors, (0, 2, 1)))
    i, j = np.tril_indices(count, k=-1)
    pairs = ops.take(ops.reshape(products, (-1, count * count)), i * count + j, axis=1)
    together = ops.concatenate([bottom, pairs], axis=1)
    return linear(ops.silu(linear(together, p, "top_0")), p, "top_1")[:, 0]
