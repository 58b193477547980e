"""A claims file is read, or refused in one clear line."""

import pytest

from fuseproof.errors import UserError
from fuseproof.reports import claims

VALID = """
[[claim]]
id = "c"
text = "t"
source = "s"
low = 0.3
high = 0.6
typical = true
comparisons = [{baseline = "a", candidate = "b"}]
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        pytest.param("low = 0.3", "low = 0.3\nlow = 0.4", "not TOML", id="malformed"),
        pytest.param("[[claim]]", "[claim]", "claim", id="a table instead of a list"),
        pytest.param("[[claim]]", "extra = 1\n[[claim]]", "claim", id="unknown top-level key"),
        pytest.param('source = "s"', "", "source", id="missing key"),
        pytest.param('source = "s"', 'source = "s"\nsauce = 1', "sauce", id="unknown key"),
        pytest.param("low = 0.3", "low = 0.7", "low", id="low above high"),
        pytest.param("low = 0.3", "low = nan", "low", id="low is nan"),
        pytest.param("low = 0.3", "low = true", "low", id="low is a boolean"),
        pytest.param('text = "t"', "text = 3", "text", id="text is a number"),
        pytest.param("high = 0.6", "high = 1.5", "readings", id="time cannot fall by 150 %"),
        pytest.param(
            "typical = true", 'typical = true\nreadings = ["speed"]', "readings", id="unknown reading"
        ),
        pytest.param(
            "typical = true", "typical = true\nreadings = [[1]]", "readings", id="reading of a wrong type"
        ),
        pytest.param('{baseline = "a", candidate = "b"}', "", "comparisons", id="no comparison"),
        pytest.param('candidate = "b"', "candidate = 3", "comparisons", id="candidate is a number"),
        pytest.param('candidate = "b"', 'other = "b"', "comparisons", id="comparison without candidate"),
        pytest.param("typical = true", 'typical = true\nmetrics = ["heat"]', "metrics", id="unknown metric"),
        pytest.param(
            "typical = true",
            'typical = true\nmetrics = ["kernels"]\nreadings = ["throughput"]',
            "no readings",
            id="less of what has no throughput",
        ),
        pytest.param(
            "high = 0.6", 'high = 1.5\nmetrics = ["kernels"]', "at most 1", id="fewer than no kernels"
        ),
        pytest.param(
            "typical = true", 'typical = true\nestimates = ["a"]', "set metrics", id="estimates of time"
        ),
        pytest.param(
            "typical = true",
            'typical = true\nmetrics = ["kernels"]\nestimates = [1]',
            "names of implementations",
            id="estimates of a number",
        ),
        pytest.param("high = 0.6", f"high = {10**400}", "30 digits", id="a huge number"),
        pytest.param("high = 0.6", "high = nan", "high has the wrong type", id="NaN"),
        pytest.param("high = 0.6", f"high = {'[' * 900}{']' * 900}", "nested|recursion", id="nested"),
        pytest.param(VALID, VALID + VALID, "two claims have the id 'c'", id="id twice"),
        pytest.param("high = 0.6", "", "low and high, or at_least", id="half a band"),
        pytest.param(
            "high = 0.6", 'high = 0.6\ndirection = "faster"', "one of these", id="band and direction"
        ),
        pytest.param("low = 0.3\nhigh = 0.6", 'direction = "less"', "'faster'", id="less of a time"),
        pytest.param("low = 0.3\nhigh = 0.6", "at_least = -0.1", "at least 0", id="a negative gain"),
        pytest.param("low = 0.3\nhigh = 0.6", "at_least = 2.0", "below 1", id="time falls by 200 %"),
        pytest.param("typical = true", 'quantity = "heat"', "unknown quantity 'heat'", id="unknown quantity"),
        pytest.param(
            "typical = true", 'quantity = "memory"\nmetrics = ["kernels"]', "leave out metrics", id="both"
        ),
        pytest.param(
            "typical = true", "population = {sweets = [1]}", "population.sweets", id="unknown population key"
        ),
        pytest.param(
            "typical = true",
            'population = {suites = ["moon"]}',
            "unknown population.suites 'moon'",
            id="a suite that does not exist",
        ),
        pytest.param(
            "typical = true",
            'population = {passes = ["sideways"]}',
            "'sideways'; there are",
            id="unknown pass",
        ),
        pytest.param("typical = true", "population = {dtypes = []}", "list of names", id="an empty list"),
        pytest.param(
            "typical = true",
            "population = {batch = {at_least = 9, at_most = 2}}",
            "in this order",
            id="batch upside down",
        ),
        pytest.param('candidate = "b"', 'candidate = "a"', "that differ", id="against itself"),
        pytest.param(VALID, "", "claim", id="empty file"),
    ],
)
def test_a_bad_claims_file_is_one_clear_line(tmp_path, old, new, problem):
    assert VALID.count(old) == 1
    file = tmp_path / "claims.toml"
    file.write_text(VALID.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=problem) as caught:
        claims.load_claims(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_built_in_claim_says_where_it_was_published_and_new_ones_what_was_measured_there():
    found = {claim.id: claim for claim in claims.load_claims()}
    published = [claim for claim in found.values() if claim.original and claim.differs]
    assert len(published) >= 8 and all(claim.source for claim in found.values())
    # 2.27 times, as published, in either of the two ways to say it.
    assert found["pytorch-2-paper-inference"].band("throughput") == (pytest.approx(2.27), float("inf"))
    # 99 % over 50 %.
    assert found["torchscript-coverage"].band("share") == (0.0, 0.5)


def test_no_text_of_a_claims_file_moves_a_cursor(tmp_path):
    file = tmp_path / "claims.toml"
    hostile = VALID.replace('text = "', 'text = "\\u001b[31m\\u202e')
    assert hostile != VALID
    file.write_text(hostile, encoding="utf-8")
    (claim,) = claims.load_claims(file)
    assert claim.text.startswith(r"\x1b[31m\u202e")


def test_a_claims_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(UserError, match="cannot read"):
            claims.load_claims(path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not TOML"):
        claims.load_claims(tmp_path / "binary.toml")
