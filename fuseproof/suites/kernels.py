"""Fuseproof's Triton kernels beside the libraries' and packages' own, on one GPU: the core kernel suite.

`kernels_attention`, `kernels_matmul` and `kernels_norms` have every shape; this one has, of each of
their operators, a shape bound by the launch, one that stays in the L2 cache, one bound by HBM, and large
ones. It should take at most nine minutes on an H100, by the estimate of tests/suites/test_suites.py.
"""

from fuseproof.suites import cases, kernels_attention, kernels_matmul, kernels_norms
from fuseproof.suites.kernels_attention import gpu_suite

BOTH = ("forward", "forward_backward")
NORMS = (
    "64x1024",  # launch
    "4096x1024",  # L2: 16 MiB in and out
    "4096x8192",  # HBM
)

SUITE = gpu_suite(
    name="kernels",
    summary="Triton kernels beside libraries and peers on a GPU, the core shapes: an estimated nine minutes",
    cases=(
        *cases(
            {
                "attention": (
                    "b1_h16_s128_d128_causal",  # launch
                    "b2_h16_s1024_d128_causal",  # L2: four tensors of 8 MiB
                    "b32_h32_kv8_s1_k4096_d128",  # HBM: one token against a cache of 512 MiB
                ),
                "matmul": (
                    "256x256x256",  # launch
                    "1024x1024x1024",  # L2: three matrices of 2 MiB
                    "1x4096x28672",  # HBM: a weight of 224 MiB
                    "8x4096x28672",
                    "98x4096x6144",
                    "2048x4096x6144",
                    "2048x14336x4096",
                    "8192x4096x28672",
                    "8192x8192x8192",
                ),
                "layer_norm": NORMS[:-1],
                "rms_norm": NORMS[:-1],
            },
            dtypes=("bfloat16",),
            passes=("forward",),
        ),
        *cases(
            {
                "attention": (
                    "b4_h16_s4096_d128",
                    "b4_h16_s4096_d128_causal",
                    "b4_h32_kv8_s4096_d128_causal",
                    "b4_h16_s4099_d128_causal",
                ),
                "layer_norm": NORMS[-1:],
                "rms_norm": NORMS[-1:],
            },
            dtypes=("bfloat16",),
            passes=BOTH,
        ),
        *cases({"matmul": ("8192x8192x8192",)}, dtypes=("tf32", "float8_e4m3"), passes=("forward",)),
    ),
    only=tuple(dict.fromkeys((*kernels_attention.ONLY, *kernels_matmul.ONLY, *kernels_norms.ONLY))),
    blocks=5,
    max_blocks=5,
)
