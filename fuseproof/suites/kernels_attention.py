"""Attention of 16,384 tokens of 2048 values, as FlashAttention's papers measure it, and its edges."""

from functools import partial

from fuseproof.suites import Suite, cases

# PyTorch's choice and its backends, the best of which a kernel has to reach, and packages where installed.
ONLY = (
    "torch.eager",
    "attention:torch.sdpa-cudnn",
    "attention:torch.sdpa-flash",
    "triton",
    "flash-attn",
    "xformers",
)

# Such a run mostly starts processes, compiles and checks: legs are short and cases are not profiled.
gpu_suite = partial(Suite, device="cuda", palindromes=6, max_palindromes=6, leg_seconds=0.003, profile=False)

TOKENS, HIDDEN = 16384, 2048
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
HEAD_DIMS = (64, 128, 256)

SHAPES = (
    *(
        f"b{TOKENS // length}_h{HIDDEN // head_dim}_s{length}_d{head_dim}{causal}"
        for head_dim in HEAD_DIMS
        for length in LENGTHS
        for causal in ("", "_causal")
    ),
    "b4_h32_kv8_s4096_d128_causal",  # Llama-3-8B's heads
    "b4_h16_s4099_d128",  # ragged in every block size
    "b4_h16_s4099_d128_causal",
)

SUITE = gpu_suite(
    name="kernels_attention",
    summary="attention of 16,384 tokens, lengths 512 to 16,384, head dims 64 to 256, bfloat16, on a GPU",
    cases=cases({"attention": SHAPES}, dtypes=("bfloat16",), passes=("forward", "forward_backward")),
    only=ONLY,
    blocks=3,
    max_blocks=3,
)
