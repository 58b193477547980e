"""The gate on files of pytest-benchmark that know nothing of Fuseproof: what they leave out is found out."""

import json

import pytest

from fuseproof.errors import UserError
from fuseproof.reports import gate
from fuseproof.runs.merging import load_all


def stock_file(path, medians, *, data=True, cpu="X", **machine):
    """What pytest-benchmark writes, with or without its samples."""
    benchmarks = []
    for name, median in medians.items():
        samples = {"data": [median, median * 1.2, median * 1.1]} if data else {}
        benchmarks.append(
            {
                "group": None,
                "name": name,
                "fullname": f"tests/test_x.py::{name}",
                "params": None,
                "extra_info": {},
                "stats": {"median": median, **samples},
            }
        )
    machine_info = {
        "machine": "x86_64",
        "system": "Linux",
        "release": "6.1",
        "python_implementation": "CPython",
        "python_version": "3.11.4",
        "cpu": {"brand_raw": cpu, "count": 2},
    } | machine
    path.write_text(json.dumps({"machine_info": machine_info, "benchmarks": benchmarks, "version": "5.1.0"}))


@pytest.mark.parametrize("data", [True, False], ids=["with data", "without data"])
@pytest.mark.parametrize(("slowdown", "exit_code"), [(1.0, 0), (1.3, 1)])
def test_globs_of_stock_files(tmp_path, data, slowdown, exit_code):
    for n, noise in enumerate([1.0, 1.01, 0.99, 1.005, 0.995]):
        stock_file(tmp_path / f"base-{n}.json", {"a": noise, "b": 2 * noise}, data=data)
        again = noise + 1e-6
        stock_file(tmp_path / f"head-{n}.json", {"a": again, "b": 2 * again * slowdown}, data=data)
    result = gate.compare(load_all(str(tmp_path / "base-*.json")), load_all(str(tmp_path / "head-*.json")))
    assert result.exit_code == exit_code
    rows = {row.name: row for row in result.rows}
    assert rows["tests/test_x.py::a"].slowdown == pytest.approx(1.0, abs=1e-5)
    assert rows["tests/test_x.py::b"].slowdown == pytest.approx(slowdown, abs=1e-5)
    if slowdown > 1:
        assert "tests/test_x.py::b" in result.remeasure_command
        assert "again-$block.json" in result.remeasure_command  # one file would be one block, for ever


def stock_folders(tmp_path, *, base=None, head=None):
    """Five files of each, told apart by their samples; `base` and `head` say more of the machine."""
    for folder, machine in (("base", base), ("head", head)):
        (tmp_path / folder).mkdir()
        for n, noise in enumerate([1.0, 1.01, 0.99, 1.005, 0.995]):
            seconds = noise + (1e-6 if folder == "head" else 0)
            stock_file(tmp_path / folder / f"{n}.json", {"a": seconds, "b": 2 * seconds}, **machine or {})
    return tmp_path / "base", tmp_path / "head"


def gated(base, head):
    return gate.compare(load_all(str(base)), load_all(str(head)))


def test_folders_of_stock_files(tmp_path):
    base, head = stock_folders(tmp_path)
    assert gated(base, head).verdict == "pass"
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="the folder holds no run"):
        gated(base, tmp_path / "none")


@pytest.mark.parametrize(
    ("head", "field", "before", "after"),
    [
        ({"cpu": "Y"}, "cpu", "X", "Y"),
        ({"python_implementation": "PyPy"}, "python_implementation", "CPython", "PyPy"),
        ({"system": "Windows"}, "system", "Linux", "Windows"),
        ({"python_version": "3.12.1"}, "python", "3.11.4", "3.12.1"),
        ({"release": "6.2"}, "release", "6.1", "6.2"),
        ({"python_implementation": None}, "python_implementation", "CPython", None),
    ],
)
def test_stock_files_of_another_machine_are_not_compared(tmp_path, head, field, before, after):
    result = gated(*stock_folders(tmp_path, head=head))
    assert (result.verdict, result.fingerprint_differences) == ("inconclusive", ((field, before, after),))


def test_a_machine_of_which_nothing_is_known_is_equal_to_none(tmp_path):
    names = ("machine", "system", "release", "python_implementation", "python_version")
    emptied = dict.fromkeys(names) | {"cpu": None}
    result = gated(*stock_folders(tmp_path, base=emptied, head=emptied))
    assert result.verdict == "inconclusive"
    assert {"cpu", "system", "python"} <= {field for field, *_ in result.fingerprint_differences}


def test_another_name_of_the_machine_does_not_matter(tmp_path):
    assert gated(*stock_folders(tmp_path, base={"node": "a"}, head={"node": "b"})).verdict == "pass"


def test_a_benchmark_in_some_files_only_has_failed_in_the_others(tmp_path):
    base, head = stock_folders(tmp_path)
    for n in (3, 4):
        stock_file(head / f"{n}.json", {"a": 1.0 + n / 1e3})
    result = gated(base, head)
    (row,) = [row for row in result.rows if row.name.endswith("::b")]
    assert (result.exit_code, row.verdict) == (1, "missing")
    assert "in 3 of 5 files" in row.reason
    mended = gated(head, base)  # in base it is told, and judged on what is there
    (row,) = [row for row in mended.rows if row.name.endswith("::b")]
    assert (row.verdict, "in 3 of 5 files of base" in row.reason) == ("pass", True)


def test_copies_of_a_file_confirm_nothing(tmp_path):
    base, head = stock_folders(tmp_path)
    for folder, seconds in ((base, 1.0), (head, 1.03)):
        for n in range(5):
            stock_file(folder / f"{n}.json", {"a": seconds, "b": seconds})
    result = gated(base, head)
    assert (result.verdict, result.exit_code) == ("inconclusive", 3)
    assert any("a copy is no second measurement" in note for note in result.to_json()["notes"])
    assert "a copy is no second measurement" in gate.render_markdown(result)


def test_a_benchmark_without_statistics_is_named(tmp_path):
    file = tmp_path / "a.json"
    stock_file(file, {"a": 1.0})
    document = json.loads(file.read_text())
    document["benchmarks"][0]["stats"] = None
    file.write_text(json.dumps(document))
    with pytest.raises(UserError, match="::a has no statistics"):
        load_all(str(file))


def test_one_stock_file_is_one_block(tmp_path):
    stock_file(tmp_path / "a.json", {"a": 1.0})
    run = load_all(str(tmp_path / "a.json"))
    assert gate.compare(run, run).verdict == "inconclusive"
