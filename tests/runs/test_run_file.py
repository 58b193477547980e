import errno
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseproof.errors import UserError
from fuseproof.files import write_json
from fuseproof.reports import report
from fuseproof.runs import merging, run_file
from fuseproof.runs.records import Benchmark, Failure, Run


def a_benchmark(
    name="layer_norm[64x64-float32-forward-torch.compile-wall]", seconds=(1e-3, 2e-3, 3e-3, 4e-3)
):
    return Benchmark(
        name=name,
        group="layer_norm[64x64-float32-forward]",
        seconds=np.array(seconds),
        block=np.arange(len(seconds)) // 2,
        leg=np.arange(len(seconds)) % 2,
        operator="layer_norm",
        shape="64x64",
        dtype="float32",
        pass_="forward",
        implementation="torch.compile",
        metric="device",
        cache="cold",
        framework="torch",
        device="cpu",
        baseline="torch.eager",
        compile_seconds=12.5,
        peak_memory_bytes=4096,
        flops=10,
        kernels=3,
        bytes=20,
        error_relative_rms=1e-7,
        error_limit=1e-6,
    )


def a_run(*benchmarks, **fields):
    known = {
        "source": "unset",
        "suite": "demo",
        "fingerprint": "abc",
        "fingerprint_fields": {"torch": "2.13.0"},
        "environment": {"python": "3.11"},
        "machine_info": {"cpu": {"count": 2}},
        "commit_info": {"id": "d5"},
        "datetime": "2026-11-23T08:00:00+00:00",
        "complete": False,
        "benchmarks": benchmarks,
        "failures": (
            Failure(group="g", implementation="triton", kind="skipped", stage="plan", message="no GPU"),
        ),
        "notes": ("profile of jax.jit: hung",),
        "settings": {"blocks": 5},
    }
    return Run(**(known | fields))


def assert_same(one: Benchmark, other: Benchmark):
    for key, value in vars(one).items():
        if isinstance(value, np.ndarray):
            assert getattr(other, key).dtype == value.dtype
            assert getattr(other, key).tolist() == value.tolist(), key
        else:
            assert getattr(other, key) == value, key


def write(run, path):
    write_json(path, run_file.run_to_json(run))
    return path


def test_a_run_is_read_as_it_was_written(tmp_path):
    run = a_run(a_benchmark(), a_benchmark("another", [5e-4]))
    write(run, tmp_path / "run" / "run.json")
    for path in (tmp_path / "run", tmp_path / "run" / "run.json"):
        loaded = run_file.load(path)
        assert loaded.source == str(path)
        for key in set(vars(run)) - {"source", "benchmarks"}:
            assert getattr(loaded, key) == getattr(run, key), key
        for one, other in zip(run.benchmarks, loaded.benchmarks, strict=True):
            assert_same(one, other)


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=50))
def test_statistics_are_those_of_the_samples(seconds):
    stats = run_file.benchmark_to_json(a_benchmark(seconds=seconds))["stats"]
    assert stats["rounds"] == len(seconds)
    assert stats["min"] == min(seconds)
    assert stats["max"] == max(seconds)
    assert stats["median"] == pytest.approx(np.median(seconds))
    assert stats["min"] <= stats["ld15iqr"] <= stats["hd15iqr"] <= stats["max"]
    assert stats["ops"] == pytest.approx(1 / stats["mean"])
    json.dumps(stats, allow_nan=False)


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = write(a_run(a_benchmark()), tmp_path / "run.json")
    before = path.read_bytes()

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device; make room"):
        write_json(path, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def stock(seconds=(1.0, 2.0), **changes):
    stats = {"median": 1.5, "data": list(seconds)}
    entry = {
        "group": None,
        "name": "f",
        "fullname": "t.py::f",
        "params": None,
        "extra_info": {},
        "stats": stats,
    }
    return {
        "machine_info": {
            "python_version": "3.11.4",
            "cpu": {"brand_raw": "X", "count": 2},
            "machine": "x86_64",
        },
        "benchmarks": [entry | changes],
        "version": "5.1.0",
    }


def test_a_stock_file_is_one_block(tmp_path):
    (tmp_path / "stock.json").write_text(json.dumps(stock()))
    run = run_file.load(tmp_path / "stock.json")
    (benchmark,) = run.benchmarks
    assert benchmark.name == "t.py::f"
    assert benchmark.seconds.tolist() == [1.0, 2.0]
    assert benchmark.block.tolist() == benchmark.leg.tolist() == [0, 0]
    assert (run.fingerprint, run.complete, run.failures) == (None, True, ())
    known = {name: value for name, value in run.fingerprint_fields.items() if value is not None}
    assert known == {"cpu": "X", "cores": 2, "machine": "x86_64", "python": "3.11.4"}
    assert "system" in run.fingerprint_fields  # what the file does not say is not left out: it is unknown


def test_a_stock_file_without_samples_is_its_median(tmp_path):
    document = stock()
    del document["benchmarks"][0]["stats"]["data"]
    (tmp_path / "stock.json").write_text(json.dumps(document))
    assert run_file.load(tmp_path / "stock.json").benchmarks[0].seconds.tolist() == [1.5]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param('{"benchmarks": [', id="truncated"),
        pytest.param("[" * 100_000, id="nested without end"),
        pytest.param("[]", id="a list"),
        pytest.param("3", id="a number"),
        pytest.param('{"traceEvents": []}', id="another format"),
        pytest.param('{"benchmarks": {}}', id="benchmarks is not a list"),
        pytest.param('{"benchmarks": [3]}', id="benchmark is a number"),
        pytest.param('{"benchmarks": [{}]}', id="benchmark is empty"),
        pytest.param('{"benchmarks": [], "fuseproof": {"schema": 99}}', id="schema of the future"),
        pytest.param('{"benchmarks": [], "fuseproof": {}, "machine_info": [1]}', id="machine_info is a list"),
        pytest.param(json.dumps(stock(seconds=[1.0, -1.0])), id="negative time"),
        pytest.param(json.dumps(stock(seconds=[1.0, float("nan")])), id="NaN"),
        pytest.param(json.dumps(stock(seconds=["fast"])), id="text for a time"),
        pytest.param(json.dumps(stock(extra_info={"block": [0]})), id="too few blocks"),
        pytest.param(json.dumps(stock(extra_info={"block": [0, "x"]})), id="block is text"),
    ],
)
def test_foreign_files_are_one_clear_line(tmp_path, text):
    file = tmp_path / "run.json"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        run_file.load(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (run_file.SCHEMA + 1, "a newer version of fuseproof wrote it, as schema 2; update fuseproof"),
        (0, "schema 0; this version of fuseproof reads 1"),
        ("1", "schema '1'"),
        (True, "schema True"),
    ],
)
def test_another_schema_is_refused_kindly(tmp_path, schema, says):
    (tmp_path / "run.json").write_text(json.dumps({"benchmarks": [], "fuseproof": {"schema": schema}}))
    with pytest.raises(UserError, match=re.escape(says)):
        run_file.load(tmp_path)


@pytest.mark.parametrize("what", ["operator", "shape", "dtype", "pass"])
def test_a_case_of_two_kinds_is_refused(tmp_path, what):
    document = run_file.run_to_json(a_run(a_benchmark(), a_benchmark("another")))
    document["benchmarks"][1]["params"][what] = "other"
    write_json(tmp_path / "run.json", document)
    with pytest.raises(UserError, match=f"another has the {what} 'other' and .*, of the same case"):
        run_file.load(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "stock.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(stock()).encode())
    assert len(run_file.load(tmp_path / "stock.json").benchmarks) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kernels": 10**400}, "more than 30 digits"),
        ({"notes": eval("[" * 100 + "]" * 100)}, "nested more than 64 levels deep"),
        ({"block": [0, 2**40]}, "blocks and legs are counted from 0, to"),
    ],
    ids=["a counter of 10^400", "nested", "a huge block"],
)
def test_what_no_program_of_good_will_writes_is_refused(tmp_path, changes, says):
    (tmp_path / "stock.json").write_text(json.dumps(stock(extra_info=changes)))
    with pytest.raises(UserError, match=re.escape(says)):
        run_file.load(tmp_path / "stock.json")


def test_nan_is_unknown_where_nothing_depends_on_it(tmp_path):
    info = {"compile_seconds": float("nan"), "kernels": None, "loss": float("inf")}
    (tmp_path / "stock.json").write_text(json.dumps(stock(extra_info=info)))
    assert run_file.load(tmp_path / "stock.json").benchmarks[0].compile_seconds is None


def test_unreadable_files_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no such run"):
        run_file.load(tmp_path / "absent")
    with pytest.raises(UserError, match=r"no run\.json"):
        run_file.load(tmp_path)
    (tmp_path / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        run_file.load(tmp_path)


def test_a_name_twice_is_refused(tmp_path):
    write(a_run(a_benchmark(), a_benchmark()), tmp_path / "run.json")
    with pytest.raises(UserError, match="twice"):
        run_file.load(tmp_path)


def test_a_glob_makes_each_file_a_block(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.json").write_text(json.dumps(stock(seconds=[n + 1.0, n + 2.0])))
    run = merging.load_all(str(tmp_path / "*.json"))
    (benchmark,) = run.benchmarks
    assert benchmark.block.tolist() == [0, 0, 1, 1, 2, 2]
    assert benchmark.seconds.tolist() == [1, 2, 2, 3, 3, 4]
    with pytest.raises(UserError, match="no file matches"):
        merging.load_all(str(tmp_path / "*.absent"))


def test_merged_runs_keep_their_blocks_apart():
    one = a_run(a_benchmark(), a_benchmark("only here", [1.0, 1.0, 1.0]))
    other = a_run(a_benchmark(seconds=(5e-3, 6e-3, 7e-3, 8e-3)))
    merged = merging.merge_as_blocks([one, other], source="both")
    assert merged.source == "both"
    assert [benchmark.name for benchmark in merged.benchmarks] == [b.name for b in one.benchmarks]
    assert merged.benchmarks[0].block.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert merged.benchmarks[1].block.tolist() == [0, 0, 1]
    assert merged.failures == one.failures
    assert merged.absent == {"only here": (1, 2)}
    with pytest.raises(UserError, match="fingerprints differ"):
        merging.merge_as_blocks([one, replace(other, fingerprint="other")], source="both")


def test_a_copy_of_a_file_is_no_second_block():
    one, other = a_run(a_benchmark(), source="a"), a_run(a_benchmark(), source="b")
    merged = merging.merge_as_blocks([one, other], source="both")
    assert merged.benchmarks[0].block.tolist() == [0, 0, 1, 1]
    assert merged.notes == (
        "b has the same samples as a in all its benchmarks: a copy is no second measurement",
        *one.notes,
    )


def test_baseline_is_that_of_the_same_case_metric_and_cache():
    compiled = a_benchmark()
    eager = replace(compiled, name="eager", implementation="torch.eager")
    decoys = [
        replace(eager, name="decoy", **{what: "other"})
        for what in ("group", "metric", "cache", "implementation")
    ]
    run = a_run(*decoys, compiled, eager)
    assert run.baseline_of(compiled) is eager
    assert a_run(*decoys, compiled).baseline_of(compiled) is None
    assert eager.is_baseline
    assert not compiled.is_baseline


def test_a_stock_benchmark_has_no_baseline(tmp_path):
    document = stock()
    document["benchmarks"].append(document["benchmarks"][0] | {"fullname": "t.py::g"})
    (tmp_path / "stock.json").write_text(json.dumps(document))
    run = run_file.load(tmp_path / "stock.json")
    assert [run.baseline_of(benchmark) for benchmark in run.benchmarks] == [None, None]


def places(document, path=()):
    """The path of every value inside a JSON document."""
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
WHOLE = run_file.run_to_json(a_run(a_benchmark(), a_benchmark("another")))


@settings(max_examples=500, deadline=None)
@given(path=st.sampled_from(list(places(WHOLE))), value=ANY_JSON, delete=st.booleans())
def test_a_file_with_one_wrong_value_is_read_or_refused(tmp_path_factory, path, value, delete):
    document = json.loads(json.dumps(WHOLE))
    *above, last = path
    place = document
    for key in above:
        place = place[key]
    if delete:
        del place[last]
    else:
        place[last] = value
    file = tmp_path_factory.getbasetemp() / "mutated.json"
    file.write_text(json.dumps(document))
    try:
        run_file.load(file)
    except UserError as error:
        assert "\n" not in str(error)


@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "bytes.json"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        run_file.load(file)
    assert "\n" not in str(caught.value)


def test_a_packed_run_is_read_from_its_file_and_its_folder(tmp_path):
    written = a_run(a_benchmark())
    write(written, tmp_path / "run.json")
    (tmp_path / "run.json.gz").write_bytes(gzip.compress((tmp_path / "run.json").read_bytes()))
    (tmp_path / "run.json").unlink()
    for path in (tmp_path, tmp_path / "run.json.gz"):
        read = run_file.load(path)
        assert_same(read.benchmarks[0], written.benchmarks[0])
        (info,) = report.summarise([read]).runs
        assert Path(info.file).name == "run.json.gz"
