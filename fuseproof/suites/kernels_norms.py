"""Layer norm and RMS norm from rows that a warp holds to rows that no block holds."""

from fuseproof.suites import cases
from fuseproof.suites.kernels_attention import gpu_suite

ONLY = (
    "torch.eager",
    "layer_norm:torch.compile",
    "rms_norm:torch.compile",
    "triton",
    "liger",
    "quack",
    "helion",
)

SHAPES = (
    *(f"4096x{columns}" for columns in (1024, 2048, 4096, 8192, 16384)),
    *(f"32768x{columns}" for columns in (256, 512, 1024, 2048, 4096, 8192, 16384)),
    "1024x262144",
)
# 4 GiB, more than any block or cache holds. Checking its gradients on the host would take minutes.
LONGEST = ("8192x262144",)

SUITE = gpu_suite(
    name="kernels_norms",
    summary="layer norm and RMS norm, 256 to 262,144 columns, bfloat16 and one float32, on a GPU",
    cases=(
        *cases(
            {"layer_norm": SHAPES, "rms_norm": SHAPES},
            dtypes=("bfloat16",),
            passes=("forward", "forward_backward"),
        ),
        # quack's layer norm has float32 weights, and so this dtype only.
        *cases({"layer_norm": ("32768x4096",)}, dtypes=("float32",), passes=("forward",)),
        *cases({"layer_norm": LONGEST, "rms_norm": LONGEST}, dtypes=("bfloat16",), passes=("forward",)),
    ),
    only=ONLY,
    blocks=3,
    max_blocks=3,
)
