"""The command line: finds the command, runs it, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. A UserError becomes one line on standard error and exit code 2."""
    parser = _parser()
    completion.answer_shell(parser)
    try:
        options = parser.parse_args(arguments)
        code: int = options.command(options)
    except UserError as error:
        print(f"fuseproof: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads the output, such as `head`, has gone
        sys.stderr.close()
        return 0
    return code


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
