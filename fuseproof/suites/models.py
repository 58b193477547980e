"""The named shapes of real models, both passes, float32 and bfloat16: hours on a CPU."""

from fuseproof.suites import USUAL, Suite, cases
from fuseproof.workloads.operators import OPERATORS, PASSES

SUITE = Suite(
    name="models",
    summary="every named shape (GPT-2, BERT, ViT, Llama), both passes, float32 and bfloat16",
    cases=cases(
        {name: tuple(operator.named_shapes) for name, operator in OPERATORS.items()},
        dtypes=("float32", "bfloat16"),
        passes=PASSES,
    ),
    only=USUAL,
)
