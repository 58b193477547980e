"""Network blocks with the same parameters in three frameworks: `claims-blocks`."""

from __future__ import annotations

from fuseproof.suites import Suite, cases
from fuseproof.workloads.blocks import BLOCKS

ONLY = ("torch.eager", "torch.compile", "jax.eager", "jax.jit", "tf.eager", "tf.function", "tf.xla")
# Where a pass has a shape of its own.
FROZEN = "conv_residual"
# Those that the suite has in bfloat16 too; by --case there are all.
IN_BFLOAT16 = ("mlp_block", "encoder_block", "decoder_block")


def at_scale(scale: str) -> Suite:
    """The same blocks, dtypes and passes at both scales; their sizes stand in the cases' names."""
    inference = {name: (f"{scale}-frozen" if name == FROZEN else scale,) for name in BLOCKS}
    training = dict.fromkeys(BLOCKS, (scale,))
    narrow = {name: inference[name] for name in IN_BFLOAT16}
    return Suite(
        name="claims-blocks",
        summary="network blocks (transformer, convolution, LSTM, …) in three frameworks, both passes",
        cases=(
            *cases(inference, dtypes=("float32",), passes=("forward",)),
            *cases(training, dtypes=("float32",), passes=("forward_backward",)),
            *cases(narrow, dtypes=("bfloat16",), passes=("forward",)),
        ),
        only=ONLY,
        device="cuda" if scale == "gpu" else "",
        scale=scale,
        blocks=5,
        max_blocks=5,
        palindromes=3,
        max_palindromes=3,
        leg_seconds=0.003,
        profile=False,
    )
