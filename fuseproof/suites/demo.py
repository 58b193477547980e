"""Small shapes of GPT-2, BERT, ViT and Llama: the whole story on two cores in a few minutes."""

from fuseproof.suites import Suite, cases

SUITE = Suite(
    name="demo",
    summary="six small cases for each pass, float32: the whole story on two cores in under six minutes",
    cases=cases(
        {
            # One head group of each model at a short length, so that a call takes about a millisecond.
            "attention": ("b1_h12_s128_d64_causal", "b1_h8_kv2_s128_d64_causal"),
            "matmul": ("128x768x768", "64x768x1024_bias_gelu_tanh"),
            "layer_norm": ("512x768", "512x768_residual"),
        },
        dtypes=("float32",),
        passes=("forward", "forward_backward"),
    ),
    blocks=5,
    max_blocks=5,
    palindromes=20,
    max_palindromes=20,
    leg_seconds=0.003,
)
