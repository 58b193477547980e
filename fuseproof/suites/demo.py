"""Five small cases for each pass, the fewest that can judge a claim: the whole story in four minutes."""

from fuseproof.suites import USUAL, Suite, cases

SUITE = Suite(
    name="demo",
    summary="five small cases for each pass, float32: the whole story on two cores in about four minutes",
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
    only=USUAL,
    blocks=5,
    max_blocks=5,
    # Beyond about ten the spread between blocks dominates: 20 made intervals hardly narrower.
    palindromes=10,
    max_palindromes=10,
    leg_seconds=0.003,
)
