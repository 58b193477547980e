"""The fixture `fuseproof_check` in a user's project: what it asserts, and in which words."""

from __future__ import annotations

import pytest
from support import inner_pytest

TESTS = """
import numpy as np
import pytest
from hypothesis import given, settings

from fuseproof import strategies

X = np.linspace(-1, 1, 5 * 129, dtype=np.float32).reshape(5, 129)


def reference(x):
    return np.tanh(x)


def edge(x):
    out = np.tanh(x)
    out[:, 128:] = 0
    return out


def test_right(fuseproof_check):
    found = fuseproof_check(np.tanh, X)
    assert found.ok and found.function == "tanh"
    fuseproof_check(np.tanh, inputs=lambda seed: {"x": X}, reference=reference)


def test_wrong(fuseproof_check):
    fuseproof_check(edge, X, reference=reference)


def test_wrong_at_a_point(fuseproof_check):
    def inputs(seed, columns):
        return {"x": X[:, :columns]}
    fuseproof_check(edge, inputs=inputs, reference=reference, over={"columns": [127, 128, 129]})


@settings(max_examples=50, database=None, deadline=None, print_blob=False)
@given(x=strategies.arrays(strategies.shapes(2, 128, largest=300)))
def test_with_hypothesis(fuseproof_check, x):
    fuseproof_check(edge, x, reference=reference, skip=["memory"])


def test_nothing_given(fuseproof_check):
    fuseproof_check(edge)


def test_refused(fuseproof_check):
    fuseproof_check(edge, X, dtype="int7")


def test_no_such_device(fuseproof_check):
    import torch
    fuseproof_check(torch.tanh, torch.ones(3), device="cuda", reference=np.tanh)
    raise AssertionError("there is one")
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "test_mine.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    return inner_pytest.run(folder)


@pytest.mark.parametrize(
    ("test", "kind", "messages"),
    [
        ("test_right", "passed", []),
        (
            "test_wrong",
            "failed",
            [
                "edge is wrong, with x float32[5, 129]:",
                "output is wrong: relative RMS error",
                "it is 0 instead",
            ],
        ),
        (
            "test_wrong_at_a_point",
            "failed",
            ["edge is wrong at 1 of 3 points:", "columns=129: output is wrong: relative RMS error"],
        ),
        ("test_with_hypothesis", "failed", ["edge is wrong, with x float32[1, 129]:"]),
        ("test_nothing_given", "failed", ["give the function's arguments after it, or else inputs="]),
        ("test_refused", "failed", ["unknown dtype 'int7'; there are float32"]),
    ],
)
def test_a_test_fails_with_the_report(session, test, kind, messages):
    found = session.tests[test]
    assert found.kind == kind, found.message
    for message in messages:
        assert message in found.message


def test_a_report_shows_the_line_of_the_test_and_no_other(session):
    found = session.tests["test_wrong"].message
    assert "fuseproof_check(edge, X, reference=reference)" in found
    assert "raise_if_wrong" not in found and "pytest_plugin" not in found


def test_a_device_that_is_not_here_skips_the_test(session):
    found = session.tests["test_no_such_device"]
    if "there is one" in found.message:
        pytest.skip("there is a GPU here")
    assert (found.kind, "PyTorch sees no CUDA GPU here" in found.message) == ("skipped", True)
