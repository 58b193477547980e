"""Square products, and those of Llama-3-8B from one token to a long prompt (Grattafiori et al. 2024)."""

from fuseproof.suites import cases
from fuseproof.suites.kernels_attention import gpu_suite

ONLY = ("torch.eager", "triton")

SQUARES = tuple(f"{size}x{size}x{size}" for size in (1024, 2048, 4096, 8192))

# (N, K): query, key and value at once; gate and up at once; down; vocabulary.
LAYERS = ((6144, 4096), (28672, 4096), (4096, 14336), (128256, 4096))
LLAMA = tuple(f"{m}x{k}x{n}" for n, k in LAYERS for m in (1, 8, 98, 256, 2048, 8192))

SUITE = gpu_suite(
    name="kernels_matmul",
    summary="matmul against cuBLAS: squares 1024 to 8192 and Llama-3-8B's shapes, bfloat16, on a GPU",
    cases=(
        *cases({"matmul": (*SQUARES, *LLAMA)}, dtypes=("bfloat16",), passes=("forward",)),
        *cases({"matmul": SQUARES[-2:]}, dtypes=("bfloat16",), passes=("forward_backward",)),
        *cases({"matmul": SQUARES[-2:]}, dtypes=("tf32", "float8_e4m3"), passes=("forward",)),
    ),
    only=ONLY,
    blocks=5,
    max_blocks=5,
)
