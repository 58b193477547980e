"""Real traces: kernel counts and busy unions equal a direct count over the raw file."""

from __future__ import annotations

import numpy as np
import pytest
from support import brute_force, shared

from fuseproof.profiling import readers
from fuseproof.profiling.analysis import summary

KINETO = (
    "a100_triton_example.kineto.json.gz",
    "h100_bert.kineto.json.gz",
    "h100_owlv2.kineto.json.gz",
    "mi300_torch_compile_triton.kineto.json.gz",
)
OTHERS = (
    "h100_cuda_graph_tiny.kineto.json.gz",
    "h100_memory_timeline.raw.gz",
    "mi300_jax_conv.xplane.pb",
    "tpu_v6e_inference.xplane.pb",
)


def check_the_summary(timeline):
    document = summary.document(timeline)
    assert list(document) == [
        "source",
        "devices",
        "slices",
        "memory",
        "overlaps",
        "dropped_events",
        "warnings",
    ]
    assert document["devices"] or document["memory"]


@pytest.mark.parametrize("name", KINETO)
def test_kineto_equals_a_direct_count(name):
    path = shared.sample(name)
    timeline = readers.load(path)
    check_the_summary(timeline)
    devices, slices = brute_force.kineto(path)
    found = timeline.devices()
    assert [device.kernels for device in found] == [len(devices[number]) for number in sorted(devices)]
    assert [device.busy_ns for device in found] == [
        brute_force.union(devices[number]) for number in sorted(devices)
    ]
    assert len(timeline.slices) == slices
    assert timeline.warnings == ()


def test_xplane_equals_a_direct_count_over_profile_data():
    path = shared.sample("mi300_jax_conv.xplane.pb")
    timeline = readers.load(path)
    devices, slices = brute_force.xplane(path.read_bytes())
    found = {device.name: device for device in timeline.devices()}
    assert set(found) == set(devices) and len(found) == 8
    for name, intervals in devices.items():
        assert found[name].kernels == len(intervals)
        assert found[name].busy_ns == brute_force.union(intervals)
    assert len(timeline.slices) == slices
    assert len(timeline.slices.columns["grid"].index) == sum(map(len, devices.values()))


def test_memory_of_a_kineto_trace():
    timeline = readers.load(shared.sample("h100_bert.kineto.json.gz"))
    memory = {each.device: each for each in timeline.memory}
    gpu = memory["GPU 0 NVIDIA H100 80GB HBM3"]
    assert (len(gpu), gpu.peak_bytes) == (218, 101305344)
    # The allocator's totals are its own events summed: what was there before is constant.
    before = gpu.allocated - np.cumsum(gpu.size)
    assert np.ptp(before) == 0


def test_memory_timeline():
    timeline = readers.load(shared.sample("h100_memory_timeline.raw.gz"))
    (memory,) = timeline.memory
    assert timeline.source == "torch-memory"
    assert len(memory) == 16845
    assert memory.running_bytes()[644] == 332060904  # allocated before the profile
    assert {timeline.names[label] for label in np.unique(memory.label)} >= {"parameter", "gradient"}


def test_allocators_of_a_jax_trace():
    memory = readers.load(shared.sample("mi300_jax_conv.xplane.pb")).memory
    assert [each.device for each in memory] == [f"/device:GPU:{number}" for number in range(8)]
    assert [len(each) for each in memory] == [20] + [30] * 7
    assert memory[0].peak_bytes == 1730171904
    assert memory[0].semantics == "allocator-at-dispatch"


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_sample_loads_and_summarises(name):
    check_the_summary(readers.load(shared.sample(name)))


def test_a_directory_gives_all_of_its_traces(tmp_path):
    names = ["a100_triton_example.kineto.json.gz", "h100_memory_timeline.raw.gz", "mi300_jax_conv.xplane.pb"]
    for name in names:
        (tmp_path / name).symlink_to(shared.sample(name))
    assert [path.name for path in readers.find(tmp_path)] == names
    assert [timeline.source for timeline in readers.load_all(tmp_path)] == [
        "kineto",
        "torch-memory",
        "xplane",
    ]
