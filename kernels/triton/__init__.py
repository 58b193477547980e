"""Hand-written Triton kernels: `from fuseproof.kernels.triton import attention, layer_norm, matmul, rms_norm`
gives functions.

The names are the functions although modules of the same names lie beside them: the imports below rebind each
name after its module was loaded, and a loaded module is never bound again. To reach a module itself, import
from it (`from fuseproof.kernels.triton.ops.attention.api import variants`) or use `importlib.import_module`;
`import fuseproof.kernels.triton.ops.attention.api as module` would give the function.
"""

from fuseproof.kernels.triton.ops.attention.api import attention
from fuseproof.kernels.triton.ops.matmul.api import matmul
from fuseproof.kernels.triton.ops.norms.layer_norm import layer_norm
from fuseproof.kernels.triton.ops.norms.rms_norm import rms_norm

__all__ = ["attention", "layer_norm", "matmul", "rms_norm"]
