"""Hand-written Triton kernels: `from fuseproof.kernels.triton import attention, matmul, layer_norm, rms_norm`
gives the functions. Their modules are in `ops`, one folder for each family of operators.
"""

from fuseproof.kernels.triton.ops.attention.api import attention
from fuseproof.kernels.triton.ops.matmul.api import matmul
from fuseproof.kernels.triton.ops.norms.layer_norm import layer_norm
from fuseproof.kernels.triton.ops.norms.rms_norm import rms_norm

__all__ = ["attention", "layer_norm", "matmul", "rms_norm"]
