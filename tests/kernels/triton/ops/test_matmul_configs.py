"""Which tiles a product may take, in what order, and what the compiler makes of them, without a GPU."""

import re
from itertools import product

import pytest
import torch

from fuseproof.kernels.triton.ahead_of_time import compile_launch
from fuseproof.kernels.triton.launch import ARCHITECTURES
from fuseproof.kernels.triton.ops.matmul import compile_list
from fuseproof.kernels.triton.ops.matmul.configs import CONFIGS, Problem, candidates, is_legal

LLAMA = [(6144, 4096), (28672, 4096), (4096, 14336), (128256, 4096)]  # N, K of Llama-3-8B's layers
BYTES = {"half": (2, 2), "float8": (1, 2), "float8_fast": (1, 2), "tf32": (4, 4), "ieee": (4, 4)}


def problem(products="half", m=4096, n=4096, k=4096, **fields):
    size, c_size = BYTES[products]
    defaults = {"aligned": True, "tma": True, "layouts": "nt", "beside": 0, "activation": None, "bias": False}
    shape = {"products": products, "m": m, "n": n, "k": k, "bytes": size, "c_bytes": c_size}
    return Problem(**shape, **(defaults | fields))


@pytest.mark.parametrize("capability", ARCHITECTURES)
@pytest.mark.parametrize("products", BYTES)
def test_there_is_a_config_for_everything(products, capability):
    architecture = ARCHITECTURES[capability]
    for m, aligned, tma, beside, activation in product(
        (1, 16, 17, 98, 8192), (False, True), (False, True), (0, 1, 2), (None, "gelu")
    ):
        given = problem(products, m, aligned=aligned, tma=tma, beside=beside, activation=activation)
        found = candidates(architecture, given)
        if products.startswith("float8") and capability < 89:
            assert not found
            continue
        assert 1 <= len(found) <= 8
        assert len(set(found)) == len(found)
        assert all(is_legal(config, architecture, given) for config in found)


@pytest.mark.parametrize("m", [1, 8, 98, 256, 2048, 8192])
@pytest.mark.parametrize(("n", "k"), LLAMA)
def test_first_choices_for_a_model(n, k, m):
    first = candidates(ARCHITECTURES[90], problem(m=m, n=n, k=k))[0]
    tiles = -(-m // first.BLOCK_M) * -(-n // first.BLOCK_N)
    if m <= 16:
        assert first.BLOCK_M == 16
    if m >= 2048:
        assert first.tma
        assert first.splits == 1
    if first.splits > 1:
        assert tiles <= 132 // 2
        assert -(-k // first.BLOCK_K) >= 4 * first.splits


def test_a_split_takes_no_memory_for_an_epilogue_it_does_not_have():
    """With every tensor beside c large tiles are still there for a split K: the sum has the epilogue."""
    heavy = problem(m=256, n=512, k=16384, beside=2, activation="gelu")
    found = candidates(ARCHITECTURES[90], heavy)
    assert any(config.BLOCK_N == 256 and config.splits > 1 for config in found)
    assert not any(config.BLOCK_N == 256 and config.splits == 1 for config in found)


def test_bucketed_sizes_serve_what_they_round_up():
    sizes = [1, 7, 8, 9, 16, 17, 98, 4096, 4097, 128256]
    rounded = [problem(m=size).bucketed().m for size in sizes]
    assert rounded == [1, 7, 8, 10, 16, 20, 112, 4096, 5120, 131072]
    assert problem(m=98).bucketed().bucketed() == problem(m=98).bucketed()


def launch_of(dtype, *words):
    """The first compiled launch for Hopper whose label has all the words."""
    for launch in compile_list.launches(dtype, ARCHITECTURES[90]):
        if all(word in launch.label.split("[")[1].rstrip("]").split("-") for word in words):
            return launch
    raise AssertionError(f"no launch of {dtype} has {words}")


SPECIALIZED = (r"setmaxnreg\.dec", r"setmaxnreg\.inc", r"cp\.async\.bulk\.tensor")


@pytest.mark.parametrize(
    ("dtype", "words", "instructions"),
    [
        (torch.bfloat16, ("tma", "specialized", "nn"), (r"wgmma\.mma_async.*\.bf16", *SPECIALIZED)),
        (torch.float8_e4m3fn, ("fast", "specialized"), (r"wgmma\.mma_async.*\.e4m3", *SPECIALIZED)),
        (torch.float8_e4m3fn, ("tma", "nn"), (r"wgmma\.mma_async.*\.e4m3", r"cp\.async\.bulk\.tensor")),
        (torch.float32, ("tma", "nn", "tf32"), (r"wgmma\.mma_async.*\.tf32", r"cp\.async\.bulk\.tensor")),
        (torch.bfloat16, ("16x64x128", "nn"), (r"mma\.sync.*\.bf16", r"cp\.async\.cg\.shared.* 0x10")),
    ],
    ids=["bfloat16", "float8-fast", "float8", "tf32", "decode"],
)
def test_instructions_on_hopper(dtype, words, instructions):
    """The tensor cores of each dtype, loads of 16 bytes or whole boxes, registers moved to who multiplies."""
    compiled = compile_launch(launch_of(dtype, *words), 90)
    for instruction in instructions:
        assert re.search(instruction, compiled.asm["ptx"]), instruction
    # One group of 4 warps that loads beside two that multiply, or all warps alike.
    specialized = "specialized" in words
    assert (compiled.metadata.num_warps == 12) is specialized
    assert ("ttg.warp_specialize" in compiled.asm["ttgir"]) is specialized
    if dtype == torch.float8_e4m3fn:
        # Hopper's tensor cores add such products in fewer bits than float32 has: leave them after 128 terms.
        terms = 2**30 if "fast" in words else 128
        assert f"maxNumImpreciseAcc = {terms}" in compiled.asm["ttgir"]


def test_float32_products_are_not_tf32():
    """The interpreter computes in float32 whatever is asked for, so look at what is compiled."""
    assert "tf32" not in compile_launch(launch_of(torch.float32, "nn", "float32"), 90).asm["ptx"]


def test_compiled_launches_use_every_config_of_the_architecture():
    for dtype, products in (
        (torch.bfloat16, {"half"}),
        (torch.float32, {"ieee", "tf32"}),
        (torch.float8_e4m3fn, {"float8", "float8_fast"}),
    ):
        launches = list(compile_list.launches(dtype, ARCHITECTURES[90]))
        assert len({launch.label for launch in launches}) == len(launches)
        used = {
            (*(launch.constants[f"BLOCK_{axis}"] for axis in "MNK"), launch.num_warps, launch.num_stages)
            for launch in launches
            if "BLOCK_K" in launch.constants
        }
        for_these_products = {
            (config.BLOCK_M, config.BLOCK_N, config.BLOCK_K, config.warps, config.stages)
            for config in CONFIGS
            if config.products in products
        }
        assert for_these_products == used
