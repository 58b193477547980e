"""`fuseproof list`: what there is, why something cannot run here, the user's implementations."""

from __future__ import annotations

from support.command_line import longest, strict

from fuseproof import suites
from fuseproof.implementations import IMPLEMENTATIONS
from fuseproof.workloads.builtin import NAMES


def test_bad_input_is_one_line(refused):
    assert "cannot import 'absent'" in refused("list", "--implementations", "absent:ROWS")


def test_list_says_what_there_is_and_why_not(fuseproof):
    code, out, err = fuseproof("list", "--json")
    assert (code, err) == (0, "")
    document = strict(out)
    assert [suite["name"] for suite in document["suites"]] == suites.names()
    assert [operator["name"] for operator in document["operators"]] == list(NAMES)
    rows = {(row["operator"], row["name"]): row for row in document["implementations"]}
    assert len(rows) == len(IMPLEMENTATIONS)
    assert rows["small_gpt", "torch.eager"]["passes"] == ["inference", "training_step"]
    assert "needs cuda" in rows["matmul", "triton"]["not_here"]
    text = fuseproof("list")[1]
    assert all(row.name in text for row in IMPLEMENTATIONS)
    assert longest(text) <= 80


def test_list_takes_the_user_s_implementations(here, fuseproof):
    (here / "mine.py").write_text(
        "from fuseproof import Implementation\n"
        "ROW = Implementation('matmul', 'mine', framework='torch', target='mine.py:f')\n"
    )
    names = {
        row["name"]
        for row in strict(fuseproof("list", "--json", "--implementations", "mine.py:ROW")[1])[
            "implementations"
        ]
    }
    assert "mine" in names
