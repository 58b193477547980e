"""The operators around attention and products in a language model, one small shape of each."""

from fuseproof.suites import USUAL, Suite, cases

SUITE = Suite(
    name="operators",
    summary="softmax, cross entropy, rotary, SwiGLU, embedding: small, float32, both passes, any device",
    cases=cases(
        {
            "softmax": ("1536x128", "64x50257"),  # scores of 12 heads, and GPT-2's vocabulary
            "cross_entropy": ("64x50257_mean",),
            "rotary": ("b1_h32_kv8_s128_d128",),  # Llama-3-8B's heads
            "swiglu": ("128x512x1408",),
            "embedding": ("512x30522x128",),  # BERT's vocabulary
        },
        dtypes=("float32",),
        passes=("forward", "forward_backward"),
    ),
    only=USUAL,
    blocks=5,
    max_blocks=5,
    palindromes=10,
    max_palindromes=10,
    leg_seconds=0.003,
)
