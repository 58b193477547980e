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
        pytest.param(VALID, VALID + VALID, "unique", id="id twice"),
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
