"""The sampler, and a board's sensors through a stand-in for nvidia-ml-py."""

from __future__ import annotations

import ctypes
import inspect
import mmap
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from support import fake_nvml

from fuseproof.profiling.capture import nvml, runner, sampling
from fuseproof.profiling.capture.record import Series
from fuseproof.profiling.capture.sampling import Probe, Sampler


def probe(read, name="x"):
    return Probe(name=name, unit="1", device="CPU", source="a test", read=read)


def test_every_sample_has_its_time():
    enough = threading.Event()
    values = iter(range(10**9))

    def read():
        value = next(values)
        if value == 20:
            enough.set()
        return None if value % 2 else float(value)

    with Sampler([probe(read), probe(lambda: None, "silent")], interval_seconds=0.0005) as sampler:
        assert enough.wait(60)
    (series,) = sampler.series()  # what never answered is left out
    assert len(series.time_ns) == len(series.value) > 20
    assert all(np.diff(series.time_ns) >= 0)
    assert series.value[:4] == (0.0, None, 2.0, None)


def test_a_capture_that_is_over_at_once_is_sampled_too():
    with Sampler([probe(lambda: 1.0)], interval_seconds=60) as sampler:
        pass
    (series,) = sampler.series()
    assert len(series.value) == 2


def test_a_long_capture_is_thinned_out(monkeypatch):
    monkeypatch.setattr(sampling, "_MOST_SAMPLES", 8)
    enough = threading.Event()
    values = iter(range(10**9))

    def read():
        value = next(values)
        if value == 40:
            enough.set()
        return float(value)

    with Sampler([probe(read)], interval_seconds=1e-5) as sampler:
        assert enough.wait(60)
    (series,) = sampler.series()
    assert len(series.value) <= 8 + 1 and series.value[0] == 0 and series.value[-1] >= 40
    assert list(series.value) == sorted(series.value)


def test_resident_memory():
    resident = sampling.resident_memory(os.getpid())
    before = resident.read()
    with mmap.mmap(-1, 32 << 20) as held:  # not from malloc, which may have as much to give away
        held.write(b"x" * len(held))
        assert resident.read() - before > len(held) / 2
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        of_child = sampling.resident_memory(child.pid)
        assert of_child.read() > 0
        child.stdin.close()
        child.wait()
    assert of_child.read() is None


def series(times, values):
    return Series(name="energy", unit="J", device="G", source="t", time_ns=tuple(times), value=tuple(values))


def test_between_two_samples_lies_a_line():
    known = series((0, 10, 20, 30), (1.0, None, 3.0, 3.0))
    assert [sampling.at(known, when) for when in (0, 10, 20, 25, 30)] == [1.0, 2.0, 3.0, 3.0, 3.0]
    assert sampling.at(known, -1) is None and sampling.at(known, 31) is None
    assert sampling.at(series((), ()), 0) is None


@pytest.fixture
def install(monkeypatch):
    def install(**how):
        module = fake_nvml.board(**how)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        return module

    return install


def read(variables=None):
    with nvml.probes(variables or {}) as probes:
        return {each.name: (each.read(), each.unit, each.source) for each in probes}, probes


def test_sensors_of_a_board(install):
    module = install()
    found, probes = read()
    assert {name: (value, unit) for name, (value, unit, _) in found.items()} == {
        "power": (250.5, "W"),
        "sm_clock": (1980.0, "MHz"),
        "memory_clock": (2619.0, "MHz"),
        "temperature": (41.0, "°C"),
        "memory_used": (7.0, "bytes"),
        "clock_event_reasons": (4.0, "bits"),
        "energy": (1000.0, "J"),
    }
    assert found["power"][2] == "NVML_FI_DEV_POWER_INSTANT"
    assert {each.device for each in probes} == {"GPU 0 NVIDIA H100"}
    assert module.called[0] == ("nvmlInit",) and module.called[-1] == ("nvmlShutdown",)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        pytest.param({"instant": None}, 240.0, id="the field says not supported"),
        pytest.param({"refuses": ("nvmlDeviceGetFieldValues",)}, 240.0, id="the driver has no fields"),
    ],
)
def test_average_power_is_labelled_so(install, how, expected):
    install(**how)
    value, _, source = read()[0]["power"]
    assert value == expected and "average" in source


def test_old_drivers_know_the_reasons_by_another_name(install):
    install(refuses=("nvmlDeviceGetCurrentClocksEventReasons",))
    assert read()[0]["clock_event_reasons"][0] == 8.0


def test_a_sensor_that_does_not_answer_is_unknown(install):
    install(refuses=("nvmlDeviceGetTemperature", "nvmlDeviceGetTotalEnergyConsumption"))
    found, _ = read()
    assert found["temperature"][0] is None and found["energy"][0] is None


def test_the_board_is_the_first_that_is_visible(install):
    module = install()
    for variables, call in (
        ({}, ("nvmlDeviceGetHandleByIndex", 0)),
        ({"CUDA_VISIBLE_DEVICES": "3,1"}, ("nvmlDeviceGetHandleByIndex", 3)),
        ({"CUDA_VISIBLE_DEVICES": "GPU-5f"}, ("nvmlDeviceGetHandleByUUID", "GPU-5f")),
    ):
        module.called.clear()
        read(variables)
        assert module.called[1] == call


def test_without_driver_or_board_there_is_nothing_to_read(install, monkeypatch):
    install(refuses=("nvmlInit",))
    assert read() == ({}, [])
    install(refuses=("nvmlDeviceGetHandleByIndex",))
    assert read() == ({}, [])
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert read() == ({}, [])


def test_energy_of_a_loop():
    counter = series((0, 10**9, 2 * 10**9), (100.0, 300.0, 500.0))
    energy = runner._energy([counter], {"start_ns": 5 * 10**8, "end_ns": 15 * 10**8, "calls": 4})
    assert (energy.joules, energy.seconds, energy.joules_per_call) == (200.0, 1.0, 50.0)
    # A loop that the counter does not cover has no energy; nor has a board without a counter.
    assert runner._energy([counter], {"start_ns": 0, "end_ns": 3 * 10**9, "calls": 4}) is None
    assert runner._energy([], {"start_ns": 0, "end_ns": 1, "calls": 1}) is None


def test_the_real_module_has_what_the_board_above_has():
    pynvml = pytest.importorskip("pynvml", reason="pip install nvidia-ml-py to compare names with it")
    fake = fake_nvml.board()
    for name, value in vars(fake).items():
        if name.startswith("NVML_"):
            assert getattr(pynvml, name) == value, name
        elif name.startswith("nvml"):
            assert callable(getattr(pynvml, name)), name
    assert list(inspect.signature(pynvml.nvmlDeviceGetFieldValues).parameters) == ["handle", "fieldIds"]
    assert {"nvmlReturn", "value"} <= {name for name, _ in pynvml.c_nvmlFieldValue_t._fields_}
    assert dict(pynvml.c_nvmlValue_t._fields_)["uiVal"] is ctypes.c_uint
    assert "used" in {name for name, _ in pynvml.c_nvmlMemory_t._fields_}
