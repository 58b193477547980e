"""Hand-written Triton kernels: `from fuseproof.kernels.triton import attention` gives a function; `__all__`
names them all. Their modules are in `ops`, one folder for each family of operators.
"""

from fuseproof.kernels.triton.ops.attention.api import attention
from fuseproof.kernels.triton.ops.cross_entropy.api import cross_entropy
from fuseproof.kernels.triton.ops.matmul.api import matmul
from fuseproof.kernels.triton.ops.norms.layer_norm import layer_norm
from fuseproof.kernels.triton.ops.norms.rms_norm import rms_norm
from fuseproof.kernels.triton.ops.rotary.api import rotary
from fuseproof.kernels.triton.ops.softmax.api import softmax
from fuseproof.kernels.triton.ops.swiglu.api import swiglu

__all__ = ["attention", "cross_entropy", "layer_norm", "matmul", "rms_norm", "rotary", "softmax", "swiglu"]
