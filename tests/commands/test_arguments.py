"""What several commands take: runs from files of any content."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("command", ["report", "claims", "gate"])
@pytest.mark.parametrize(
    "content",
    [b"", b'{"benchmarks": [', b"[]", b'{"traceEvents": []}', b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "truncated", "a list", "another format", "not text", "deep"],
)
def test_foreign_files_are_one_line(here, refused, command, content):
    (here / "foreign.json").write_bytes(content)
    files = ["foreign.json", "foreign.json"] if command == "gate" else ["foreign.json"]
    assert "foreign.json" in refused(command, *files)
