"""Data frames: every planned row with documented columns, in whichever library is installed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from support.runs import make_benchmark, make_run

from fuseproof.api import Comparison, frames
from fuseproof.errors import UserError
from fuseproof.runs.records import Failure

GROUP = "layer_norm[64x64-float32-forward]"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "notebook-and-python.md"


@pytest.fixture
def comparison():
    """A baseline, a faster one with all figures, a failure and a skip."""
    figures = {"kernels": 3, "peak_memory_bytes": 2**40, "flops": 10**30, "bytes": 7, "compile_seconds": 0.5}
    benchmarks = [
        make_benchmark("torch.eager", seconds=2e-3, process_noise=0.01, error_relative_rms=1e-8),
        make_benchmark("torch.compile", process_noise=0.01, **figures),
    ]
    failures = [
        Failure(group=GROUP, implementation=name, kind=kind, stage="check", message=message)
        for name, kind, message in (("torch.bad", "error", "wrong"), ("triton", "skipped", "needs cuda"))
    ]
    return Comparison(make_run(benchmarks, failures=failures))


def test_a_row_for_all_that_was_planned(comparison):
    rows = {row["implementation"]: row for row in comparison.to_dicts()}
    assert {name: row["status"] for name, row in rows.items()} == {
        "torch.eager": "measured",
        "torch.compile": "measured",
        "torch.bad": "failed",
        "triton": "skipped",
    }
    assert rows["torch.bad"]["message"] == "wrong" and rows["torch.bad"]["workload"] == "layer_norm"
    assert all(rows["torch.bad"][name] is None for name in ("seconds", "speedup", "low", "high", "error"))
    (speedup,) = comparison.speedups
    compiled, eager = rows["torch.compile"], rows["torch.eager"]
    for name in ("speedup", "low", "high", "seconds", "seconds_low", "seconds_high", "blocks", "baseline"):
        assert compiled[name] == getattr(speedup, name)
    assert (compiled["kernels"], compiled["compile_seconds"], compiled["rounds"]) == (3, 0.5, 300)
    assert compiled["break_even_calls"] == pytest.approx(
        0.5 / (eager["seconds"] - compiled["seconds"]), rel=1e-2
    )
    assert (eager["speedup"], eager["error"]) == (None, 1e-8)
    assert (compiled["doubt"], eager["doubt"], eager["speedup_by_mean"]) == ("", "", None)
    assert compiled["speedup_by_mean"] == pytest.approx(compiled["speedup"], rel=1e-2)
    assert list(compiled) == [column.name for column in frames.MEASUREMENTS]


def test_every_column_is_on_the_page_with_its_unit():
    listed = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [
        (column.name, column.unit, column.meaning) for column in (*frames.MEASUREMENTS, *frames.SAMPLES)
    ]


def test_samples_are_those_of_the_run(comparison):
    rows = comparison.samples.to_dicts()
    eager, compiled = comparison.benchmarks
    assert len(comparison.samples) == len(rows) == len(eager.seconds) + len(compiled.seconds)
    found = [row for row in rows if row["implementation"] == "torch.compile"]
    for name in ("seconds", "block", "leg"):
        assert [row[name] for row in found] == getattr(compiled, name).tolist()
    assert {(row["case"], row["cache"], row["metric"]) for row in rows} == {(GROUP, "warm", "wall")}
    assert len(Comparison(make_run([])).samples) == 0


def test_pandas_has_the_columns_with_their_types(comparison):
    pandas = pytest.importorskip("pandas", reason="needs pandas; pip install pandas")
    frame = comparison.to_pandas()
    assert list(frame.columns) == [column.name for column in frames.MEASUREMENTS]
    assert frame["seconds"].dtype == np.float64 and frame["blocks"].dtype == pandas.Int64Dtype()
    assert frame["speedup"].isna().tolist() == [True, False, True, True]
    assert frame["blocks"].isna().tolist() == [False, False, True, True]
    assert frame["message"].tolist() == ["", "", "wrong", "needs cuda"]
    assert comparison.samples.to_pandas()["leg"].sum() == sum(b.leg.sum() for b in comparison.benchmarks)


def test_polars_has_the_columns_with_their_types(comparison):
    polars = pytest.importorskip("polars", reason="needs polars; pip install polars")
    frame = comparison.to_polars()
    assert frame.to_dicts() == comparison.to_dicts()
    assert (frame.schema["seconds"], frame.schema["blocks"]) == (polars.Float64, polars.Int64)
    assert comparison.samples.to_polars().to_dicts() == comparison.samples.to_dicts()


def test_arrow_has_units_and_other_libraries_take_the_stream(comparison):
    pyarrow = pytest.importorskip("pyarrow", reason="needs PyArrow; pip install pyarrow")
    table = comparison.to_arrow()
    assert table.to_pylist() == comparison.to_dicts()
    assert table.schema.field("peak_memory_bytes").metadata[b"unit"] == b"bytes"
    assert pyarrow.table(comparison).equals(table)
    assert pyarrow.table(comparison.samples).num_rows == len(comparison.samples)


@pytest.mark.parametrize(
    ("call", "library"),
    [
        ("to_pandas", "pandas"),
        ("to_polars", "polars"),
        ("to_arrow", "pyarrow"),
        ("__arrow_c_stream__", "pyarrow"),
    ],
)
def test_a_library_that_is_missing_is_named_with_the_command(comparison, monkeypatch, call, library):
    monkeypatch.setitem(sys.modules, library, None)
    for table in (comparison, comparison.samples):
        with pytest.raises(UserError, match=f"needs {library}: pip install {library}; to_dicts") as raised:
            getattr(table, call)()
        assert "\n" not in str(raised.value)
