"""The report of a run that has a fusion account, and of one that has none."""

import json
from dataclasses import replace

import pytest
from support.pages import HOSTILE, Page

from fuseproof.errors import UserError
from fuseproof.fusion import account
from fuseproof.fusion.account import Account, Pair
from fuseproof.fusion.programs.operations import Operation
from fuseproof.reports import report

CASE = "layer_norm[64x64-float32-forward]"


@pytest.fixture
def write(tmp_path, a_run, a_benchmark):
    """Writes an account beside a run of two implementations; the run, as read from that folder."""

    def write(*accounts):
        document = account.document(accounts, {})
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / account.FILE).write_text(json.dumps(document))
        benchmarks = [a_benchmark(), a_benchmark("torch.compile", seconds=5e-4)]
        return replace(a_run(benchmarks), source=str(tmp_path / "run"))

    return write


def an_account(**more):
    fields = {
        "case": CASE,
        "implementation": "torch.compile",
        "framework": "torch",
        "compared_with": "torch.eager",
        "kernels": Pair(eager=9, compiled=1),
        "peak_memory_bytes": Pair(eager=2**21, compiled=None),
        "before": tuple(Operation(name=name, kind="operation", bytes=2**20) for name in ("add", "mul")),
        "after": (
            Operation(
                name="cpp_fused_0", kind="fusion", members=("add", "mul", "add"), bytes=2**20, loop_nests=3
            ),
            Operation(name="mm", kind="library", bytes=0),
        ),
        "artifacts": {"Inductor's code": f"fusion/{CASE}/torch.compile/output code#1.py"},
        "unknown": {"peak_memory_compiled": "nobody tells"},
    }
    return Account(**(fields | more))


def test_the_page_says_why(write, tmp_path):
    summary = report.summarise([write(an_account())], beside=tmp_path / "page")
    page = Page(report.render(summary, "html"))
    for expected in (
        "9 → 1 −89\u00a0%",
        "2 → 2",
        "2.00 MiB → 1.00 MiB −50\u00a0%",
        "2.00 MiB → –",
        "1 fusion, 1 library call",
        "fusion, 1.00 MiB, 3 loop nests : add ×2, mul",
        "Unknown: peak memory compiled: nobody tells",
        "computed from the program, not measured",
    ):
        assert " ".join(expected.split()) in page.words
    (link,) = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert link == "../run/fusion/layer_norm%5B64x64-float32-forward%5D/torch.compile/output%20code%231.py"


@pytest.mark.parametrize("format", ["md", "json"])
def test_the_other_formats_say_it_too(write, format):
    text = report.render(report.summarise([write(an_account())]), format)
    if format == "md":
        assert "| layer\\_norm | 64x64 · float32 · forward | torch.compile | 9 → 1 |" in text
    else:
        (why,) = json.loads(text)["whys"]
        assert why["account"]["kernels"] == {"eager": 9, "compiled": 1}


def test_a_skipped_one_gives_its_reason(write):
    skipped = an_account(status="skipped", reason="needs a GPU", before=None, after=None)
    page = Page(report.render(report.summarise([write(skipped)]), "html"))
    assert "skipped : needs a GPU" in page.words


def test_accounts_of_what_is_not_reported_are_left_out(write):
    run = write(an_account(case="matmul[8x8x8-float32-forward]"), an_account(implementation="gone"))
    assert report.summarise([run]).whys == ()


def test_without_an_account_the_report_is_whole(a_run, a_benchmark, tmp_path):
    summary = report.summarise([replace(a_run([a_benchmark()]), source=str(tmp_path))])
    page = Page(report.render(summary, "html"))
    assert "why" not in {attributes.get("id") for _, attributes in page.elements}
    assert "## Why" not in report.render(summary, "md")


def test_hostile_names_are_inert(write):
    operation = Operation(name=HOSTILE, kind=HOSTILE, members=(HOSTILE,), bytes=1)
    hostile = an_account(
        compared_with=HOSTILE,
        after=(operation,),
        artifacts={HOSTILE: f"javascript:{HOSTILE}"},
        unknown={HOSTILE: HOSTILE},
    )
    page = Page(report.render(report.summarise([write(hostile)]), "html"))
    assert sum(tag == "script" for tag, _ in page.elements) == 2
    assert "img" not in {tag for tag, _ in page.elements}
    (link,) = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert not link.startswith("javascript:")


def test_a_damaged_account_is_bad_input(write):
    run = write(an_account())
    with open(f"{run.source}/{account.FILE}", "w") as file:  # noqa: PTH123
        file.write("{")
    with pytest.raises(UserError, match="delete it, or make it again"):
        report.summarise([run])
