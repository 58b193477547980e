"""Network blocks with the same parameters in three frameworks: `claims-blocks`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fuseproof.suites import Suite
from fuseproof.suites.claims import population
from fuseproof.workloads.blocks import BLOCKS
from fuseproof.workloads.blocks.base import USES

# Those that the suite has in Keras too, whose programs cost as much to compile as the others'.
IN_KERAS = ("mlp_block", "encoder_block", "conv_residual", "lstm")
ONLY = (
    *("torch.eager", "torch.compile", "jax.eager", "jax.jit", "tf.eager", "tf.function", "tf.xla"),
    *(f"{block}:keras.{mode}" for block in IN_KERAS for mode in ("function", "xla", "jit")),
)
# Those that the suite has at a large batch, and in bfloat16, to end in time; by --case there are all.
IN_LARGE = ("mlp_block", "encoder_block", "conv_residual", "unet_block", "dlrm")
IN_BFLOAT16 = ("mlp_block", "encoder_block", "decoder_block")


def at_scale(scale: str) -> Suite:
    """The same blocks, dtypes and passes at both scales; their sizes stand in the cases' names."""
    single, large, training = (dict.fromkeys(BLOCKS, f"{scale}-{use}") for use in USES)
    large = {name: large[name] for name in IN_LARGE}
    narrow = {name: single[name] for name in IN_BFLOAT16}
    return population(
        "claims-blocks",
        "network blocks (transformer, convolution, LSTM, …) in PyTorch, JAX, TensorFlow and Keras",
        modules=(
            *_cases(single, "float32", "inference"),
            *_cases(large, "float32", "inference"),
            *_cases(training, "float32", "training_step"),
            *_cases(narrow, "bfloat16", "inference"),
        ),
        only=ONLY,
        scale=scale,
        palindromes=3,
    )


def _cases(shapes: Mapping[str, str], dtype: str, pass_: str) -> Iterable[str]:
    """The names of cases at these named shapes, by block; left out are blocks without the pass."""
    for name, shape in shapes.items():
        block = BLOCKS[name]
        if pass_ in block.passes and shape in block.named_shapes:
            yield f"{name}[{block.from_label(shape).label}-{dtype}-{pass_}]"
