"""The kernels around attention and products, from shapes bound by the launch to those that HBM must feed."""

from fuseproof.suites import cases
from fuseproof.suites.kernels_attention import gpu_suite

COMPILED = ("softmax", "cross_entropy", "rotary", "swiglu")
ONLY = ("torch.eager", *(f"{operator}:torch.compile" for operator in COMPILED), "triton")

SHAPES = {
    "softmax": (
        "64x1024",  # launch
        "4096x1024",  # L2: 16 MiB in and out
        *(f"32768x{columns}" for columns in (256, 1024, 4096)),
        "4096x32768",
        "1024x128256",
    ),
    "cross_entropy": (
        "64x1000",  # launch
        "4096x32000",  # Llama 2's vocabulary
        "1024x50257",  # GPT-2's, whose odd rows are read element by element
        "4096x128256",  # Llama 3's
    ),
    "rotary": (
        "b8_h32_kv8_s1_d128",  # launch: a token of 8 sequences
        "b1_h32_kv8_s4096_d128",
        "b4_h64_kv8_s4096_d128",
        "b8_h12_s1024_d64",
    ),
    "swiglu": (
        "8x4096x14336",  # Llama-3-8B, a token of 8 sequences
        "2048x4096x14336",
        "4096x1024x3072",  # Qwen3-0.6B
    ),
}

SUITE = gpu_suite(
    name="kernels_operators",
    summary="softmax, cross entropy, rotary, SwiGLU: Triton kernels beside PyTorch, bfloat16, on a GPU",
    cases=(
        *cases(SHAPES, dtypes=("bfloat16",), passes=("forward", "forward_backward")),
        *cases({"cross_entropy": ("4096x128256_mean",)}, dtypes=("bfloat16",), passes=("forward_backward",)),
    ),
    only=ONLY,
    blocks=3,
    max_blocks=3,
)
