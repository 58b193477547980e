"""XLA's buffer assignment and live ranges as a memory plan.

xla_dumps/ is attention b4 h16 s2048 d128 bfloat16 for a v5p (libtpu 0.0.42.1), whose peak_memory_in_bytes was
2,281,701,376.
"""

from pathlib import Path

import pytest

from fuseproof.errors import UserError
from fuseproof.profiling.readers import xla_dumps
from fuseproof.profiling.readers.xla_dumps import HBM, VMEM

FOLDER = Path(__file__).parent / "xla_dumps"
ASSIGNMENT = (FOLDER / "buffer-assignment.txt").read_text()
LIVE_RANGES = (FOLDER / "live-range.txt").read_text()
MIB = 2**20


def test_the_peak_is_the_compiler_s():
    plan = xla_dumps.parse(ASSIGNMENT, LIVE_RANGES)
    assert plan.peak_bytes == 2_281_701_376
    assert plan.resident_bytes == 128 * MIB  # q, k, v and the output
    assert plan.peak_of(HBM) == 2048 * MIB  # scores and their exponentials, float32
    assert plan.peak_of(VMEM) == 32 * MIB  # k, fetched ahead
    assert plan.unshared_peak_bytes == plan.peak_bytes


def test_memory_over_the_schedule():
    plan = xla_dumps.parse(ASSIGNMENT, LIVE_RANGES)
    assert plan.steps[4:7] == ("copy-done", "convolution_multiply_fusion", "fusion.10")
    assert [size // MIB for size in plan.live_bytes(HBM)] == [0] * 5 + [1024, 2048] + [1024] * 3 + [
        1056,
        32,
        0,
    ]
    assert [size // MIB for size in plan.live_bytes(VMEM)] == [0] + [32] * 5 + [0] * 3 + [32] * 4
    [scores] = [b for b in plan.buffers if b.instruction == "convolution_multiply_fusion"]
    assert (scores.first, scores.last, scores.bytes, scores.offset, scores.space) == (
        5,
        6,
        1024 * MIB,
        0,
        HBM,
    )


def test_buffers_that_live_together_do_not_overlap():
    """The two files fit each other: what the compiler put in one place is never needed at one time."""
    plan = xla_dumps.parse(ASSIGNMENT, LIVE_RANGES)
    for a in plan.buffers:
        for b in plan.buffers:
            together = a.allocation == b.allocation and a.first <= b.last and b.first <= a.last
            if a is not b and together:
                assert a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset


def test_shared_bytes_count_once():
    assignment = """BufferAssignment:
allocation 0: size 64, parameter 0, shape |f32[16]| at ShapeIndex {}:
 value: <1 x @0> (size=64,offset=0): f32[16]{0}
allocation 1: size 96, preallocated-temp:
 value: <2 whole @0> (size=64,offset=0): f32[16]{0}
 value: <3 loop{1} (phi) @0> (size=32,offset=32): f32[8]{0}
 value: <4 beside @0> (size=32,offset=64): f32[8]{0}
 value: <5 loop{} @0> (size=16,offset=0): (f32[8]{0}, f32[8]{0})
"""
    ranges = """HloLiveRange (max 3):
  InstructionSequence:
    0:x
    1:whole
    2:loop
  BufferLiveRange:
    x{}:0-3
    whole{}:1-2
    loop{1}:2-3
    loop{}:2-3
    beside{}:2-2
"""
    plan = xla_dumps.parse(assignment, ranges)
    assert plan.live_bytes(HBM) == [0, 64, 96]
    assert plan.peak_bytes == 160
    assert plan.unshared_peak_bytes == 192


@pytest.mark.parametrize("lines", [0, 1, 12, 20, 30])
def test_live_ranges_that_are_cut_off_are_refused(lines):
    cut = "\n".join(LIVE_RANGES.splitlines()[:lines])
    with pytest.raises(UserError, match="v5p") as error:
        xla_dumps.parse(ASSIGNMENT, cut, source="v5p")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "HloModule m", "BufferAssignment:\n", "BufferAssignment:\nallocation 3: si"]
)
def test_an_assignment_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="v5p"):
        xla_dumps.parse(text, LIVE_RANGES, source="v5p")


def test_an_assignment_of_another_module_is_refused():
    with pytest.raises(UserError, match=r"do not have other\{0\}"):
        xla_dumps.parse(ASSIGNMENT.replace("fusion.10{1}", "other{0}"), LIVE_RANGES)
