"""The record of a capture: reading gives what was written, and any other document is refused in one line."""

from __future__ import annotations

import copy
import json

import pytest

from fuseproof.errors import UserError
from fuseproof.implementations import Implementation
from fuseproof.profiling.capture import record as capture_record
from fuseproof.profiling.capture.record import CaptureRecord, Energy, ProfiledCall, Series, Trace


def record(**changes):
    fields = {
        "group": "layer_norm[5x7-float32-forward]",
        "implementation": Implementation("layer_norm", "torch.eager", framework="torch", target="a.b:c"),
        "device": "cpu",
        "device_name": "cpu",
        "versions": {"torch": "2.13.0"},
        "threads": 2,
        "stacks": False,
        "seed": 0,
        "calls": (ProfiledCall(start_ns=10, end_ns=20), ProfiledCall(start_ns=30, end_ns=30)),
        "kernel_counts": (3, 3),
        "kernel_rule": "kernels on a stream",
        "kernel_names": ("aten::mul",),
        "profiler_on_seconds": (3.0, 1.0, 2.0),
        "profiler_off_seconds": (1.0,),
        "traces": (Trace(file="torch.json.gz", kind="kineto"),),
        "samples": (
            Series(
                name="power", unit="W", device="GPU 0", source="NVML", time_ns=(1, 2), value=(250.5, None)
            ),
        ),
        "energy": Energy(device="GPU 0", joules=300.0, seconds=1.25, calls=600),
        "warnings": ("a warning",),
        "not_seen": ("something",),
    }
    return CaptureRecord(**{**fields, **changes})


def test_round_trip(tmp_path):
    written = record()
    folder = tmp_path / "torch.eager"
    written.save(folder)
    (folder / "torch.json.gz").write_bytes(b"")
    assert capture_record.load(folder) == written
    assert capture_record.folders(tmp_path) == [folder]
    assert CaptureRecord.from_json(json.loads(json.dumps(record(energy=None).to_json()))).energy is None


def test_a_record_may_be_of_a_workload_that_only_its_user_knows():
    mine = record(group="compare[fixed-float32-forward]")
    assert CaptureRecord.from_json(json.loads(json.dumps(mine.to_json()))) == mine


def test_a_record_does_not_say_whose_machine_it_was(monkeypatch):
    monkeypatch.setenv("HOME", "/home/alice")
    mine = Implementation("layer_norm", "mine", framework="torch", target="/home/alice/mine.py:f")
    document = record(implementation=mine, warnings=("no /home/alice/.cache",)).to_json()
    assert "alice" not in json.dumps(document)
    assert CaptureRecord.from_json(json.loads(json.dumps(document))).implementation.target == "~/mine.py:f"


def test_a_record_of_a_newer_version_is_refused_kindly():
    with pytest.raises(
        UserError, match="a newer version of fuseproof wrote it, as schema 3; update fuseproof"
    ):
        CaptureRecord.from_json(record().to_json() | {"schema": 3})


def test_derived_figures():
    assert record().kernels_per_call == 3
    assert record(kernel_counts=(3, 4)).kernels_per_call is None
    assert record(kernel_counts=()).kernels_per_call is None
    assert record().overhead == 2.0
    assert record(profiler_off_seconds=()).overhead is None
    assert record().energy.joules_per_call == 0.5


def test_settings_that_must_match_are_named_where_they_differ():
    jax = Implementation("layer_norm", "jax.jit", framework="jax", target="a.b:c")
    other = record(implementation=jax, versions={"jax": "0.10.2"}, seed=1, device_name="TFRT_CPU_0")
    assert capture_record.unlike([record(), other]) is None
    assert capture_record.unlike([]) is None
    assert capture_record.unlike([record(), record(implementation=jax, threads=1)]) == (
        "threads: 2 (torch.eager), 1 (jax.jit)"
    )
    assert "torch: 2.13.0 (torch.eager), 2.12 (" in capture_record.unlike(
        [record(), record(versions={"torch": "2.12"})]
    )
    assert "Python stacks: off" in capture_record.unlike([record(), record(stacks=True)])


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("schema",), 1, "schema 1; this version of fuseproof reads 2"),
        (("group",), "nonsense", "not a case"),
        (("row", "framework"), "theano", "unknown framework"),
        (("calls", 0), 5, r"Expected `object`, got `int` - at `\$.calls\[0\]`"),
        (("calls", 0, "end_ns"), 9, "before its start"),
        (("calls", 0, "start_ns"), -1, r"Expected `int` >= 0 - at `\$.calls\[0\].start_ns`"),
        (("calls", 0, "start_ns"), True, r"Expected `int`, got `bool` - at .*start_ns`"),
        (("kernel_counts",), [1], "1 kernel counts for 2 calls"),
        (("profiler_on_seconds", 0), 0, r"Expected `float` > 0.0 - at .*profiler_on_seconds\[0\]`"),
        (("profiler_on_seconds", 0), float("inf"), r"Expected `float` <= 1.79.*profiler_on_seconds\[0\]`"),
        (("profiler_on_seconds", 0), float("nan"), r"Expected `float`.*profiler_on_seconds\[0\]`"),
        (("samples", 0, "value", 0), float("nan"), r"Expected `float`.*samples\[0\].value\[0\]`"),
        (("profiler_on_seconds", 0), 10**400, "out of range"),
        (("samples", 0, "value", 0), 10**400, "out of range"),
        (("samples", 0, "value", 0), "1", r"got `str` - at .*value\[0\]`"),
        (("energy", "joules"), -1, r"Expected `float` >= 0.0 - at .*energy.joules`"),
        (("row", "target"), 5, "5|int"),
        (("traces", 0, "file"), "../secret", "plain file name"),
        (("traces", 0, "kind"), "perfetto", r"'perfetto' - at .*kind`"),
        (("samples", 0, "value"), [1.0], "2 times for 1 values"),
        (("samples", 0, "time_ns"), [2, 1], "do not ascend"),
        (("energy", "calls"), 0, r"Expected `int` >= 1 - at .*energy.calls`"),
        (("versions", "torch"), 2, "version"),
        (("threads",), None, r"Expected `int`, got `null` - at .*threads`"),
        (("stacks",), 0, r"Expected `bool`, got `int` - at .*stacks`"),
        (("warnings",), "text", r"Expected `array`, got `str` - at .*warnings`"),
        (("dropped_events",), -3, r"Expected `int` >= 0 - at .*dropped_events`"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_malformed_records_are_refused(path, value, says):
    document = copy.deepcopy(json.loads(json.dumps(record().to_json())))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UserError, match=says) as refused:
        CaptureRecord.from_json(document)
    assert "\n" not in str(refused.value)


def test_a_number_may_be_whole_and_an_unknown_key_is_ignored():
    document = json.loads(json.dumps(record().to_json())) | {"colour": "blue"}
    document["row"]["colour"] = "blue"
    document["profiler_off_seconds"] = [1]
    assert CaptureRecord.from_json(document) == record()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match="holds no capture"):
        capture_record.folders(tmp_path)
    with pytest.raises(UserError, match=r"cannot read .*capture\.json"):
        capture_record.load(tmp_path)
    record().save(tmp_path)
    with pytest.raises(UserError, match=r"torch\.json\.gz, which is missing"):
        capture_record.load(tmp_path)
    (tmp_path / capture_record.FILE_NAME).write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        capture_record.load(tmp_path)
    (tmp_path / capture_record.FILE_NAME).write_text("[]")
    with pytest.raises(UserError, match="not a JSON object"):
        capture_record.load(tmp_path)
