"""What leaves the machine does not say whose it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseproof import privacy


@pytest.fixture
def alice(monkeypatch):
    """Alice, at home in /home/alice, in a folder of hers, on a computer of hers."""
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("USER", "alice")
    monkeypatch.setenv("LOGNAME", "alice")
    monkeypatch.setattr(privacy, "_account", lambda: ("alice", "/home/alice"))
    monkeypatch.setattr(Path, "cwd", lambda: Path("/home/alice/kernels"))
    monkeypatch.setattr("platform.node", lambda: "alices-laptop.lan")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/home/alice/kernels/mine.py:3: bad", "mine.py:3: bad"),
        ("in /home/alice/kernels", "in ."),
        ("/home/alice/kernels-old/mine.py", "~/kernels-old/mine.py"),
        ("--xla_dump_to=/home/alice/dump", "--xla_dump_to=~/dump"),
        ("'/home/alice'", "'~'"),
        ("file:///home/alice/x", "file://~/x"),
        ("/home/bob/x.cu(3)", "~/x.cu(3)"),
        ("/Users/bob/x", "~/x"),
        ("/mnt/home/alice/x", "/mnt/home/user/x"),
        ("/tmp/torchinductor_alice/ab/c.cpp", "/tmp/torchinductor_user/ab/c.cpp"),
        ("alice@alices-laptop.lan: no", "user@host: no"),
        ("on alices-laptop", "on host"),
        ("malice, alices, chalice", "malice, alices, chalice"),
        ("layer_norm[512x768-float32-forward]", "layer_norm[512x768-float32-forward]"),
        ("/usr/lib/python3.11/json.py", "/usr/lib/python3.11/json.py"),
    ],
)
def test_paths_and_names(alice, text, clean):
    assert privacy.anonymous(text) == clean
    assert privacy.anonymous(clean) == clean


def test_an_account_that_everybody_has_is_a_word(monkeypatch):
    monkeypatch.setenv("USER", "root")
    monkeypatch.setenv("LOGNAME", "root")
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setattr(privacy, "_account", lambda: ("root", "/root"))
    text = "relative root_mean_square of square_root at /root/x, /rooted"
    assert privacy.anonymous(text) == "relative root_mean_square of square_root at ~/x, /rooted"


@pytest.mark.parametrize("home", ["", "/"])
def test_no_home(monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(privacy, "_account", lambda: ("", ""))
    assert privacy.anonymous("/usr/bin/x") == "/usr/bin/x"


def test_a_machine_has_one_number_that_says_nothing(monkeypatch, tmp_path):
    identifier = tmp_path / "machine-id"
    monkeypatch.setattr(privacy, "_MACHINE_ID", identifier)
    assert privacy.machine_id() == ""
    identifier.write_text("0123456789abcdef0123456789abcdef\n")
    first = privacy.machine_id()
    assert len(first) == 16 and first == privacy.machine_id()
    assert first not in identifier.read_text()
    identifier.write_text("1123456789abcdef0123456789abcdef\n")
    assert privacy.machine_id() not in ("", first)
