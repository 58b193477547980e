"""XLA's buffer assignment and live ranges as memory at each step.

dumps/ is attention b4 h16 s2048 d128 bfloat16 for a v5p (libtpu 0.0.42.1), whose peak_memory_in_bytes was
2,281,701,376.
"""

from pathlib import Path

import pytest

from fuseproof.errors import UserError
from fuseproof.profiling.readers.xla_schedule import dumps
from fuseproof.profiling.readers.xla_schedule.dumps import HBM, VMEM

FOLDER = Path(__file__).parent / "dumps"
ASSIGNMENT = (FOLDER / "buffer-assignment.txt").read_text()
LIVE_RANGES = (FOLDER / "live-range.txt").read_text()
MIB = 2**20


def test_the_peak_is_the_compiler_s():
    memory = dumps.parse(ASSIGNMENT, LIVE_RANGES)
    assert memory.peak_bytes == 2_281_701_376
    assert memory.resident_bytes == 128 * MIB  # q, k, v and the output
    assert memory.peak_of(HBM) == 2048 * MIB  # scores and their exponentials, float32
    assert memory.peak_of(VMEM) == 32 * MIB  # k, fetched ahead
    assert memory.unshared_peak_bytes == memory.peak_bytes


def test_memory_over_the_schedule():
    memory = dumps.parse(ASSIGNMENT, LIVE_RANGES)
    assert memory.steps[4:7] == ("copy-done", "convolution_multiply_fusion", "fusion.10")
    assert [size // MIB for size in memory.live_bytes(HBM)] == [0] * 5 + [1024, 2048] + [1024] * 3 + [
        1056,
        32,
        0,
    ]
    assert [size // MIB for size in memory.live_bytes(VMEM)] == [0] + [32] * 5 + [0] * 3 + [32] * 4
    [scores] = [b for b in memory.buffers if b.instruction == "convolution_multiply_fusion"]
    assert (scores.first, scores.last, scores.bytes, scores.offset, scores.space) == (
        5,
        6,
        1024 * MIB,
        0,
        HBM,
    )


def test_buffers_that_live_together_do_not_overlap():
    """The two files agree: values in one place are never live at one time."""
    memory = dumps.parse(ASSIGNMENT, LIVE_RANGES)
    for a in memory.buffers:
        for b in memory.buffers:
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
    memory = dumps.parse(assignment, ranges)
    assert memory.live_bytes(HBM) == [0, 64, 96]
    assert memory.peak_bytes == 160
    assert memory.unshared_peak_bytes == 192


@pytest.mark.parametrize("lines", [0, 1, 12, 20, 30])
def test_live_ranges_that_are_cut_off_are_refused(lines):
    cut = "\n".join(LIVE_RANGES.splitlines()[:lines])
    with pytest.raises(UserError, match="v5p") as error:
        dumps.parse(ASSIGNMENT, cut, source="v5p")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "HloModule m", "BufferAssignment:\n", "BufferAssignment:\nallocation 3: si"]
)
def test_a_text_that_is_not_an_assignment_is_refused(text):
    with pytest.raises(UserError, match="v5p"):
        dumps.parse(text, LIVE_RANGES, source="v5p")


def test_an_assignment_of_another_module_is_refused():
    with pytest.raises(UserError, match=r"other\{0\} is not in the live ranges"):
        dumps.parse(ASSIGNMENT.replace("fusion.10{1}", "other{0}"), LIVE_RANGES)
