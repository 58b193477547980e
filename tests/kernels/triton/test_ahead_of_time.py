"""Every kernel compiles for every target without a GPU, fits its shared memory and spills no register."""

import importlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from fuseproof.kernels.triton.ahead_of_time import Resources, compile_launch, resources
from fuseproof.kernels.triton.launch import TARGETS, Launch

OPERATORS = ("attention", "matmul", "layer_norm")

# Whole float32 rows of 32,768 columns sit at the limit of 64 registers per thread: triton 3.7.1 spills
# nothing, 3.6.0 spills 16 bytes, which costs less than reading the row twice.
SPILLS_OF_FLOAT32 = 16


def launches(operator: str, dtype: str, capability: int) -> list[Launch]:
    module = importlib.import_module(f"fuseproof.kernels.triton.{operator}")
    return list(module.variants(getattr(torch, dtype), TARGETS[capability]))


def one_per_tile(operator: str, dtype: str, capability: int) -> list[Launch]:
    """The last launch of each tile, which uses the most branches."""
    tiles = {}
    for launch in launches(operator, dtype, capability):
        tiles[tuple(launch.constants.get(f"BLOCK_{axis}") for axis in "MNKD")] = launch
    return list(tiles.values())


# Every branch for one target, every tile for the others: dtype and target change tiles, not branches.
CASES = [
    *((launch, 90) for operator in OPERATORS for launch in launches(operator, "bfloat16", 90)),
    *((launch, 80) for operator in OPERATORS for launch in one_per_tile(operator, "bfloat16", 80)),
    *((launch, 100) for operator in OPERATORS for launch in one_per_tile(operator, "bfloat16", 100)),
    *((launch, 90) for operator in OPERATORS for launch in one_per_tile(operator, "float32", 90)),
    *((launch, 90) for operator in OPERATORS for launch in one_per_tile(operator, "float16", 90)[-1:]),
]


@pytest.fixture(scope="module")
def compiled(request) -> Iterator[dict[tuple[str, int], Future[Resources]]]:
    """The resources of the selected cases, compiled on all cores: Triton releases the interpreter lock."""
    cases = [
        item.callspec.params
        for item in request.session.items
        if item.function is test_compiles_without_spills
    ]
    pool = ThreadPoolExecutor(os.cpu_count())
    yield {
        (case["launch"].label, case["capability"]): pool.submit(resources, case["launch"], case["capability"])
        for case in cases
    }
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    ("launch", "capability"), CASES, ids=lambda value: getattr(value, "label", f"sm_{value}")
)
def test_compiles_without_spills(launch, capability, compiled, record_property):
    used = compiled[launch.label, capability].result()
    record_property("resources", repr(used))  # in the JUnit file, for who wants the numbers
    assert used.spill_bytes <= (SPILLS_OF_FLOAT32 if launch.label.endswith("float32]") else 0), used
    assert 0 < used.registers * used.num_warps * 32 <= 65536, used
    assert used.shared_bytes <= TARGETS[capability].shared_memory, used


@pytest.mark.parametrize(("operator", "instruction"), [("attention", "wgmma"), ("matmul", "wgmma")])
def test_hopper_kernels_use_its_tensor_cores(operator, instruction):
    launch = launches(operator, "bfloat16", 90)[0]
    assert instruction in compile_launch(launch, 90).asm["ptx"]


def test_spills_are_seen():
    """The budget above is worth nothing if a kernel that must spill is read as clean."""
    [launch] = (row for row in launches("layer_norm", "bfloat16", 90) if "x8192" in row.label)
    starved = replace(launch, num_warps=1)  # 256 values per thread
    assert resources(starved, 90).spill_bytes > 0


def test_resources_have_names():
    used = resources(launches("layer_norm", "bfloat16", 90)[0], 90)
    assert isinstance(used, Resources)
    assert used.label == "layer_norm[4096x128-residual-bias-bfloat16]"
    assert (used.capability, used.num_warps) == (90, 4)
