"""The elementwise part of SwiGLU, both passes: h = silu(g) · u with silu(g) = g · σ(g).

    dg = dh · u · σ(g) (1 + g (1 − σ(g))),  du = dh · silu(g)

All are as many elements of float16, bfloat16 or float32 without gaps; everything between a load and a store
is float32, and each result is rounded once.

Bytes: forward reads g and u and writes h; backward reads g, u and dh and writes dg and du. σ(g) is not
stored.
"""

import triton
import triton.language as tl
from fuseproof.kernels.triton.rows import load_float32, store_rounded


@triton.jit
def _places(vectors, VECTOR: tl.constexpr, BLOCK: tl.constexpr):
    """The elements of a program, and which of them there are."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return place, place < tl.cast(vectors, tl.int64) * VECTOR


@triton.jit
def silu_product_kernel(
    g_ptr,  # (elements,)
    u_ptr,
    h_ptr,
    vectors,  # elements / VECTOR
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    place, mask = _places(vectors, VECTOR, BLOCK)
    g = load_float32(g_ptr + place, mask, True, "evict_first")
    u = load_float32(u_ptr + place, mask, True, "evict_first")
    # Stored for the product that follows, which finds it in the L2 cache.
    store_rounded(h_ptr + place, g * tl.sigmoid(g) * u, mask, True)


@triton.jit
def silu_product_backward_kernel(
    dh_ptr,  # (elements,)
    g_ptr,
    u_ptr,
    dg_ptr,
    du_ptr,
    vectors,  # elements / VECTOR
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    place, mask = _places(vectors, VECTOR, BLOCK)
    dh = load_float32(dh_ptr + place, mask, True, "evict_first")
    g = load_float32(g_ptr + place, mask, True, "evict_first")
    u = load_float32(u_ptr + place, mask, True, "evict_first")
    sigmoid = tl.sigmoid(g)
    silu = g * sigmoid
    store_rounded(dg_ptr + place, dh * u * (sigmoid + silu * (1 - sigmoid)), mask, True)
    store_rounded(du_ptr + place, dh * silu, mask, True)
