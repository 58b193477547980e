"""The shortest run that uses every part; its numbers mean nothing."""

from fuseproof.suites import USUAL, Suite, cases

SUITE = Suite(
    name="smoke",
    summary="three tiny cases, two blocks: does everything run? Its numbers mean nothing",
    cases=cases(
        {"attention": ("b1_h2_s32_d16_causal",), "matmul": ("32x64x32",), "layer_norm": ("64x128",)},
        dtypes=("float32",),
        passes=("forward",),
    ),
    only=USUAL,
    blocks=2,
    max_blocks=2,
    palindromes=4,
    max_palindromes=4,
    leg_seconds=0.001,
)
