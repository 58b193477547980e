"""The command line as a whole: help, what it imports, completion, wrong commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from support.command_line import call, longest

from fuseproof import __version__, cli
from fuseproof.implementations import FRAMEWORKS
from fuseproof.runs.records import Failure

NAMES = [command.__name__.rpartition(".")[2] for command in cli.COMMANDS]


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_fits_80_columns(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = call(capsys, *name.split(), "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: fuseproof {name}")
    assert longest(out) <= 80


def test_help_lists_every_command_with_one_line(capsys):
    out = call(capsys, "--help")[1]
    for command, name in zip(cli.COMMANDS, NAMES, strict=True):
        assert f"{name:8}  {command.HELP}\n" in out


def test_the_version(capsys):
    assert call(capsys, "--version") == (0, f"fuseproof {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND; see `fuseproof --help`"),
        (["measure"], "invalid choice: 'measure'"),
        (["run", "--faster"], "unrecognized arguments: --faster; see `fuseproof --help`"),
    ],
    ids=["no command", "unknown command", "unknown option"],
)
def test_a_wrong_command_is_one_line(capsys, arguments, message):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("fuseproof: ") and message in err and err.count("\n") == 1


def test_nothing_heavy_is_imported_to_look_around(tmp_path):
    script = f"""
import sys
from fuseproof.cli import main
frameworks = {{*{list(FRAMEWORKS)!r}, "triton", "jaxlib"}}
heavy = {{*frameworks, "numpy", "scipy", "rich", "jinja2", "psutil", "argcomplete"}}
for arguments in (["--help"], *([name, "--help"] for name in {NAMES!r}), ["--version"]):
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0
    assert not heavy & set(sys.modules), (arguments, heavy & set(sys.modules))
assert main(["list"]) == 0
assert not frameworks & set(sys.modules), "by list"
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: fuseproof" in done.stdout


def test_python_runs_it_as_a_module(tmp_path):
    command = [sys.executable, "-m", "fuseproof", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fuseproof {__version__}\n", "")


def test_a_reader_that_goes_away_is_not_an_error(tmp_path):
    command = [sys.executable, "-m", "fuseproof", "list"]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = subprocess.run(
            command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=300, cwd=tmp_path
        )
    assert done.stderr == ""


@pytest.fixture
def crash(monkeypatch, tmp_path):
    """Makes `fuseproof list` raise an exception, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def prepare(error):
        def run(options):
            raise error

        monkeypatch.setattr("fuseproof.commands.list.run", run)

    return prepare


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("bad\nnews \udc80\x1b[31m"), r"ValueError: bad news \udc80\x1b[31m; "),
        (KeyError(), "KeyError; "),
        (MemoryError(), "MemoryError; "),
        (RecursionError("x" * 10_000), "RecursionError: xxx"),
        (OSError(13, "Permission denied"), "PermissionError: [Errno 13] Permission denied; "),
    ],
    ids=["ValueError", "KeyError", "MemoryError", "RecursionError", "OSError"],
)
def test_a_crash_is_one_line_and_a_log(crash, capsys, tmp_path, error, said):
    crash(error)
    code, out, err = call(capsys, "list")
    assert (code, out) == (2, "")
    assert err.startswith("fuseproof: internal error: ") and said in err and err.count("\n") == 1
    assert len(err) < 700
    (log,) = tmp_path.glob("crash-*.log")
    assert str(log) in err
    assert "Traceback" in log.read_text() and type(error).__name__ in log.read_text()


def test_a_crash_is_logged_beside_the_runs_where_there_are_any(crash, capsys, tmp_path):
    crash(ValueError())
    (tmp_path / "here" / ".fuseproof").mkdir()
    assert " .fuseproof/crash-" in call(capsys, "list")[2]
    assert not list(tmp_path.glob("crash-*")) and len(list(tmp_path.glob("here/.fuseproof/crash-*.log"))) == 1


def test_a_crash_without_a_place_for_the_log_is_still_one_line(crash, capsys, monkeypatch, tmp_path):
    crash(ValueError("no"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    code, _, err = call(capsys, "list")
    assert code == 2 and "ValueError: no; set FUSEPROOF_DEBUG=1" in err and err.count("\n") == 1


def test_a_developer_sees_the_traceback(crash, capsys, monkeypatch):
    crash(ValueError("no"))
    monkeypatch.setenv("FUSEPROOF_DEBUG", "1")
    assert "Traceback" in call(capsys, "list")[2]


def test_an_interrupt_is_no_crash(crash):
    crash(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        cli.main(["list"])


def test_output_that_cannot_be_written_is_one_line(tmp_path):
    command = [sys.executable, "-m", "fuseproof", "list"]
    with open("/dev/full", "w") as full:  # noqa: PTH123 - as a shell opens it
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )  # fmt: skip
    assert done.returncode == 2
    assert "cannot write: No space left" in done.stderr and done.stderr.count("\n") == 1


def test_a_terminal_that_knows_only_ascii_is_shown_escapes(tmp_path, write_run):
    failure = Failure(
        group="layer_norm[64x128-float32-forward]", implementation="mine", kind="error", stage="check",
        message="bad \udc80 µ \x1b[31m",
    )  # fmt: skip
    write_run(tmp_path / "a" / "run.json", {"torch.eager": [1e-3] * 5, "torch.compile": [5e-4] * 5})
    write_run(tmp_path / "b" / "run.json", {"torch.eager": [1e-3] * 5}, failures=[failure])
    variables = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}

    def call(*arguments):
        command = [sys.executable, "-m", "fuseproof", *arguments]
        done = subprocess.run(command, capture_output=True, timeout=300, cwd=tmp_path, env=variables)
        return done.returncode, done.stdout.decode("ascii"), done.stderr.decode("ascii")

    assert call("report", "absent-µ") == (2, "", "fuseproof: no such run: absent-\\xb5\n")
    for code, *arguments in ((0, "report", "b", "--format", "md"), (0, "claims", "a"), (1, "gate", "a", "b")):
        found, out, err = call(*arguments)
        assert (found, err) == (code, "")
        assert arguments[0] == "claims" or r"bad \udc80 \xb5" in out.replace("\\\\", "\\")


# bash calls the registered function when Tab is pressed; here a script calls it and prints what it offers.
BASH = r"""
fuseproof() { "$PYTHON" -m fuseproof "$@"; }
eval "$("$PYTHON" -m argcomplete.scripts.register_python_argcomplete fuseproof)"
function=$(complete -p fuseproof | sed -E 's/.*-F ([^ ]+).*/\1/')
COMP_LINE="$LINE" COMP_POINT=${#LINE} COMP_TYPE=9 COMP_KEY=9
read -ra COMP_WORDS <<< "$LINE"
[[ "$LINE" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"$function" fuseproof "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(tmp_path):
    """What bash offers for a line that is typed so far."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")

    def offered(line):
        variables = {**os.environ, "PYTHON": sys.executable, "LINE": line}
        done = subprocess.run(
            ["bash", "-c", BASH], env=variables, capture_output=True, text=True, timeout=300, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return [word.strip() for word in done.stdout.splitlines()]

    return offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fuseproof ru", ["run"]),
        ("fuseproof run smo", ["smoke"]),
        ("fuseproof run --res", ["--resume"]),
        (
            "fuseproof run --only torch.eager,jax.ea",
            ["torch.eager,jax.eager", "torch.eager,jax.eager-composed"],
        ),
        ("fuseproof claims --require ref", ["refuted-low", "refuted-high"]),
        ("fuseproof report --format m", ["md"]),
    ],
)
def test_bash_completes(complete, line, offered):
    assert sorted(complete(line)) == sorted(offered)


@pytest.mark.parametrize(
    ("shell", "says"), [("bash", "complete "), ("zsh", "compdef"), ("fish", "complete ")]
)
def test_every_shell_can_register(shell, says):
    command = [sys.executable, "-m", "argcomplete.scripts.register_python_argcomplete", "--shell", shell]
    done = subprocess.run([*command, "fuseproof"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout and "fuseproof" in done.stdout
