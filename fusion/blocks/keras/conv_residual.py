"""The residual block in Keras: fuseproof.workloads.blocks.conv_residual."""

from __future__ import annotations

from keras import ops

from fuseproof.fusion.blocks.keras.module import module_of
from fuseproof.fusion.blocks.keras.parts import Parameters, Tensor, batch_norm, convolution
from fuseproof.workloads.blocks.conv_residual import ConvResidual


@module_of(ConvResidual)
def conv_residual(parameters: Parameters, x: Tensor, *statistics: Tensor) -> Tensor:
    """statistics: means and variances of both norms, of frozen ones."""
    p = parameters
    h = ops.silu(batch_norm(convolution(x, p, "first"), p, "first", *statistics[:2]))
    return ops.silu(batch_norm(convolution(h, p, "second"), p, "second", *statistics[2:]) + x)
