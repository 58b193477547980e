"""The operators, by name."""

from collections.abc import Mapping

from fuseproof.errors import require_known
from fuseproof.workloads.operators.attention import Attention
from fuseproof.workloads.operators.base import DTYPES, PASSES, Operator, Sampled, result_dtype, tensor_dtype
from fuseproof.workloads.operators.cross_entropy import CrossEntropy
from fuseproof.workloads.operators.embedding import Embedding
from fuseproof.workloads.operators.layer_norm import LayerNorm
from fuseproof.workloads.operators.matmul import Matmul
from fuseproof.workloads.operators.rms_norm import RMSNorm
from fuseproof.workloads.operators.rotary import Rotary
from fuseproof.workloads.operators.softmax import Softmax
from fuseproof.workloads.operators.swiglu import SwiGLU

__all__ = ["DTYPES", "OPERATORS", "PASSES", "Operator", "Sampled", "get", "result_dtype", "tensor_dtype"]

OPERATORS: Mapping[str, type[Operator]] = {
    operator.name: operator
    for operator in (
        *(Attention, Matmul, LayerNorm, RMSNorm),
        *(Softmax, CrossEntropy, Rotary, SwiGLU, Embedding),
    )
}


def get(name: str) -> type[Operator]:
    """The operator class named `name`. Raises UserError for any other name."""
    require_known("operator", [name], OPERATORS)
    return OPERATORS[name]
