"""Files appear whole or not at all, and what cannot be written is one line with its remedy."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import stat
from pathlib import Path

import pytest

from fuseproof import files
from fuseproof.errors import UserError


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_text_is_what_was_written(tmp_path):
    files.write_text(tmp_path / "page.html", "µ → ×\n")
    files.write_text(tmp_path / "page.html", "new µ\n")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "new µ\n"
    assert names(tmp_path) == ["page.html"]


def test_json_is_strict_and_makes_its_folder(tmp_path):
    path = tmp_path / "a" / "b" / "run.json"
    files.write_json(path, {"x": [1, None]}, indent=1)
    assert json.loads(path.read_text()) == {"x": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": [1, None]}


def test_an_error_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "absent") as file:
        raise KeyboardInterrupt
    assert names(tmp_path) == ["report.html"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with files.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_others_may_read_a_new_file_and_an_old_one_keeps_its_mode(tmp_path):
    before = os.umask(0o022)
    try:
        files.write_text(tmp_path / "new", "")
        (tmp_path / "old").touch(0o600)
        files.write_text(tmp_path / "old", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o600


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/file")
    files.write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_text() == "text"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write_text(pipe, "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_device_is_never_replaced():
    files.write_text("/dev/null", "text")
    assert Path("/dev/null").is_char_device()


def test_appending_keeps_what_others_wrote(tmp_path):
    (tmp_path / "summary").write_text("one\n")
    files.append_text(tmp_path / "summary", "two\n")
    assert (tmp_path / "summary").read_text() == "one\ntwo\n"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.write_text(path, ""),
        lambda path: files.append_text(path, ""),
        lambda path: files.write_json(path, {}),
        files.make_directory,
        files.require_writable,
    ],
    ids=["text", "append", "json", "directory", "require"],
)
def test_what_cannot_be_written_is_one_line_with_the_remedy(tmp_path, write):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^cannot write .*file.*: .*choose a (writable|folder that)"):
        write(tmp_path / "file" / "below")
    assert names(tmp_path) == ["file"]


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*Is a directory"):
        files.write_text(tmp_path, "")
    with pytest.raises(UserError, match="is a folder: name the file itself"):
        files.require_writable(tmp_path)


def test_a_full_disk_asks_for_room(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with (
        pytest.raises(UserError, match=r"cannot write .*report.html: .*; make room and go on"),
        files.replacing(path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["report.html"]


def test_a_full_disk_stops_writing_and_not_the_program(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    with file_size_limit(1000), pytest.raises(UserError, match="make room and go on"):
        files.write_text(path, "x" * 100_000)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["report.html"]


@contextlib.contextmanager
def file_size_limit(size):
    """As a disk with little room: no file grows above this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_half_a_character_of_a_foreign_message_does_not_prevent_a_report(tmp_path):
    files.write_text(tmp_path / "page.html", "bad \udc80 µ")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "bad \\udc80 µ"


@pytest.mark.parametrize("links", [True, False], ids=["with hard links", "without"])
def test_a_file_is_created_by_one_of_several(tmp_path, monkeypatch, links):
    if not links:

        def refuse(*_):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a" / "plan.json"
    files.create_json(path, {"x": 1})
    with pytest.raises(FileExistsError):
        files.create_json(path, {"x": 2})
    assert json.loads(path.read_text()) == {"x": 1}
    assert names(tmp_path / "a") == ["plan.json"]


def test_a_file_that_cannot_be_created_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(UserError, match=r"cannot write .*plan\.json: .*; make room and go on"):
        files.create_json(tmp_path / "plan.json", {})
    assert names(tmp_path) == []
