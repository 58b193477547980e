"""Files of pytest-benchmark that a gate once passed, or read wrongly; through the command, as CI calls it."""

import json

import pytest
from support import shared

from fuseproof import cli


@pytest.fixture
def gate(capsys):
    """Exit code, document and errors of `fuseproof gate --json`."""

    def run(*arguments):
        code = cli.main(["gate", "--json", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, json.loads(captured.out), captured.err

    return run


def test_copies_are_told_and_confirm_nothing(gate):
    folder = shared.case("g08_identical")
    code, document, _ = gate(folder / "b?.json", folder / "h?.json")
    assert (code, document["verdict"]) == (3, "inconclusive")
    assert any("a copy is no second measurement" in note for note in document["notes"])


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("zero.json", "is not JSON"),
        ("nullstats.json", "has no statistics"),
        ("empty_list.json", "holds no benchmarks"),
    ],
)
def test_a_file_without_benchmarks_is_one_line(gate, head, says):
    folder = shared.case("g09_empty")
    code, document, errors = gate(folder / "b0.json", folder / head)
    assert (code, document["verdict"]) == (2, "error")
    assert says in document["message"]
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("head", "fields"),
    [("cpu?.json", {"cpu"}), ("pypy?.json", {"python_implementation"})],
)
def test_another_machine_is_named(gate, head, fields):
    folder = shared.case("g11_machines")
    code, document, _ = gate(folder / "b?.json", folder / head)
    assert (code, document["verdict"]) == (3, "inconclusive")
    assert fields <= {each["field"] for each in document["fingerprint_differences"]}


def test_a_byte_order_mark_is_read(gate):
    folder = shared.case("g14_bom")
    code, document, _ = gate(folder / "b?.json", folder / "h?.json")
    assert document["verdict"] in ("pass", "inconclusive")
    assert code == (0 if document["verdict"] == "pass" else 3)
    assert all(row["slowdown"] is not None for row in document["rows"])


def test_a_benchmark_in_three_of_five_files_never_passes(gate):
    folder = shared.case("g15_partial_blocks")
    code, document, _ = gate(folder / "b?.json", folder / "h?.json")
    assert code == 1
    assert any("in 3 of 5 files" in row["reason"] for row in document["rows"])
