"""JSON of others: plain, bounded data with visible texts, or one line."""

from __future__ import annotations

import gzip
import json
import math

import pytest

from fuseproof import documents
from fuseproof.errors import UserError


def test_what_json_lacks_is_unknown_and_what_is_hidden_shows():
    found = documents.plain(
        {"\x1b": ["a\udc80", {"b": ["\u202e", 1, None, True, 1.5, math.nan]}], "i": math.inf}
    )
    assert found == {r"\x1b": [r"a\udc80", {"b": [r"\u202e", 1, None, True, 1.5, None]}], "i": None}


@pytest.mark.parametrize("numbers", [[1.5, math.nan], [1, math.inf], [math.inf, -math.inf], [1e308, 1e308]])
def test_lists_of_numbers_are_looked_at_too(numbers):
    assert documents.plain(numbers) == [n if math.isfinite(n) else None for n in numbers]


@pytest.mark.parametrize("numbers", [[10**400, -(10**400)], [1, 10**31], [1.5, 10**31], 10**31])
def test_integers_are_bounded(numbers):
    with pytest.raises(ValueError, match="30 digits"):
        documents.plain(numbers)


def test_depth_is_bounded():
    assert documents.plain(json.loads("[" * 64 + "]" * 64))
    with pytest.raises(ValueError, match="64 levels"):
        documents.plain(json.loads("[" * 66 + "]" * 66))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not JSON (Expecting value"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"9" * 5000, "is not JSON"),
        (b"\xff\xfe{\0", "is not UTF-8 text; make it again"),
    ],
)
def test_anything_else_is_one_line(tmp_path, data, says):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(UserError) as caught:
        documents.load(tmp_path / "x.json", wanted="make it again")
    message = str(caught.value)
    assert says in message and str(tmp_path / "x.json") in message
    assert "\n" not in message and len(message) < 500


def test_a_folder_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        documents.load(tmp_path, wanted="")
    with pytest.raises(FileNotFoundError):
        documents.load(tmp_path / "absent", wanted="")


def test_a_reason_is_short_and_on_one_line():
    assert documents.reason(KeyError("stats")) == "no 'stats'"
    assert documents.reason(ValueError("a\nb\x1b")) == r"a b\x1b"
    assert len(documents.reason(ValueError("x" * 1000))) < 250
    assert documents.reason(AssertionError()) == "AssertionError"


def test_a_packed_document_is_read_and_nothing_larger_than_memory(tmp_path, monkeypatch):
    file = tmp_path / "a.json.gz"
    file.write_bytes(gzip.compress(b'{"a": [1, 2]}'))
    assert documents.load(file, wanted="expected it") == {"a": [1, 2]}
    for data, says in (
        (b'{"a": 1}', "it is not packed by gzip"),
        (gzip.compress(b'{"a": 1}')[:-9], "it is cut off"),
    ):
        file.write_bytes(data)
        with pytest.raises(UserError, match=says) as caught:
            documents.load(file, wanted="expected it")
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(documents, "_LARGEST_UNPACKED", 1000)
    file.write_bytes(gzip.compress(b" " * 2000 + b"1"))
    with pytest.raises(UserError, match="it holds more than 1 GiB"):
        documents.load(file, wanted="expected it")
