"""`fuseproof timeline`: exit codes, one line for what is wrong, one object or a list."""

from __future__ import annotations

import json

import pytest

from fuseproof.cli import main


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "a.json"
    event = {"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": 1.5, "dur": 2}
    path.write_text(json.dumps({"traceEvents": [event, {**event, "ts": 2.5}]}))
    return path


def test_json_of_one_trace_is_an_object(trace, capsys):
    assert main(["timeline", str(trace), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "source": "kineto",
        "devices": [{"name": "GPU 0", "kernels": 2, "busy_ns": 3000, "span_ns": 3000}],
        "slices": 2,
        "memory": [],
        "overlaps": 1,
        "dropped_events": None,
        "warnings": [],
    }


def test_json_of_several_is_a_list(trace, capsys):
    assert main(["timeline", str(trace), str(trace), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_table_and_exports(trace, tmp_path, capsys):
    out = tmp_path / "t.html", tmp_path / "t.pftrace"
    assert main(["timeline", str(trace), "-o", str(out[0]), "--perfetto", str(out[1])]) == 0
    assert "2 kernels, busy 3.00 µs" in capsys.readouterr().out
    assert out[0].read_text().startswith("<!") and out[1].read_bytes()[:1] == b"\n"


def test_a_small_peak_is_printed_in_bytes(capsys, tmp_path):
    args = {"Total Allocated": 16, "Bytes": 16, "Device Id": -1, "Device Type": 0, "Addr": 4096}
    event = {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "s": "t", "args": args}
    event |= {"pid": 1, "tid": 1, "ts": 1}
    path = tmp_path / "memory.json"
    path.write_text(json.dumps({"traceEvents": [event]}))
    assert main(["timeline", str(path)]) == 0
    assert "peak 16 B" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"{}", b"\n\x05", b"\x80\x04c", b"no trace", b"\x1f\x8b\x08"])
def test_anything_else_is_one_line_and_2(content, tmp_path, capsys):
    path = tmp_path / "x"
    path.write_bytes(content)
    assert main(["timeline", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fuseproof: ") and error.count("\n") == 1 and str(path) in error


def test_missing_file(tmp_path, capsys):
    assert main(["timeline", str(tmp_path / "none")]) == 2
    assert "cannot read" in capsys.readouterr().err
