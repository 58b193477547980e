"""Five small cases of operators for each pass, the fewest that can judge a claim, and one model."""

from fuseproof.suites import USUAL, Suite, cases

SUITE = Suite(
    name="demo",
    summary="five small cases for each pass and a small GPT, float32: the whole story in about six minutes",
    cases=cases(
        {
            # GPT-2's heads and width at a short length, so that a call takes about a millisecond.
            "attention": ("b1_h12_s128_d64_causal",),
            "matmul": ("128x768x768", "64x768x1024_bias_gelu_tanh"),
            "layer_norm": ("512x768", "512x768_residual"),
        },
        dtypes=("float32",),
        passes=("forward", "forward_backward"),
    ),
    # Of PyTorch alone, and inference alone: its training step takes twice as long to compile.
    modules=("small_gpt[batch1_length64-float32-inference]",),
    only=USUAL,
    blocks=5,
    max_blocks=5,
    # So few that a run ends within six minutes. From about ten on the spread between blocks dominates anyway.
    palindromes=6,
    max_palindromes=6,
    leg_seconds=0.003,
)
