"""The command line: finds the command, runs it, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from fuseproof import escaping
from fuseproof.commands import (
    claims,
    compile,
    completion,
    doctor,
    fusion,
    gate,
    list,
    profile,
    report,
    run,
    timeline,
)
from fuseproof.errors import UserError

# In the order of `fuseproof --help`. A command has the name of its module.
COMMANDS: Sequence[ModuleType] = (
    run,
    report,
    claims,
    gate,
    compile,
    fusion,
    profile,
    timeline,
    list,
    doctor,
)


_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FOLDER: Final = Path(".fuseproof")  # of what Fuseproof keeps here; a crash is logged there if it exists
_LONGEST_MESSAGE: Final = 300  # characters of an exception's message on the terminal; the log has all


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Bad input and a crash are one line on standard error, and 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding cannot hold is shown as an escape
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    try:
        completion.answer_shell(parser)
        options = parser.parse_args(arguments)
        code: int = options.command(options)
        sys.stdout.flush()  # while the exit code can still say that it could not be written
    except UserError as error:
        _say(str(error))
    except BrokenPipeError:  # whoever reads the output, such as `head`, has gone
        sys.stderr.close()
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            _say(f"cannot write: {error.strerror}; make room and go on")
        else:
            _say(_describe_crash(error))
    else:
        return code
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):  # else Python tries again at its end, and changes the exit code
            sys.stdout.close()
    return 2


def _say(message: str) -> None:
    print(f"fuseproof: {escaping.terminal(escaping.line(message))}", file=sys.stderr)


def _describe_crash(error: Exception) -> str:
    """What went wrong, in one line, and the file that the traceback was written to."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    if os.environ.get("FUSEPROOF_DEBUG") == "1":
        print(text, file=sys.stderr)
    message = escaping.line(traceback.format_exception_only(error)[-1])
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}…"
    where = "set FUSEPROOF_DEBUG=1 to see where"
    for folder in [_FOLDER, None] if _FOLDER.is_dir() else [None]:  # None: the system's for temporary files
        # A new file, which nobody else has: a link that lies in wait is not followed.
        with (
            contextlib.suppress(OSError),
            tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", errors="backslashreplace", prefix="crash-", suffix=".log", dir=folder,
                delete=False,
            ) as file,
        ):  # fmt: skip
            file.write(f"{sys.argv}\n{sys.version}\n{text}")
            where = f"the traceback is in {os.path.relpath(file.name) if folder else file.name}"
            break
    return f"internal error: {message}; {where}; please report it"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fuseproof",
        description="Does compiling and fusing make this faster, here, and why?",
        epilog="`fuseproof COMMAND --help` describes a command.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        subparser = commands.add_parser(name, help=command.HELP, description=command.__doc__)
        subparser.set_defaults(command=command.run)
        command.add_arguments(subparser)
    return parser


class _Parser(argparse.ArgumentParser):
    """Reports bad arguments as every other bad input: in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that costs more than parsing."""

    def __call__(self, *_: Any) -> None:
        from fuseproof import __version__

        print(f"fuseproof {__version__}")
        raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
