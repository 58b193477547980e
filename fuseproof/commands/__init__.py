"""The commands, one module each.

A module is named for its command and has `HELP`, one line for `fuseproof --help`; `add_arguments(parser)`;
and `run(options)`, which gives the exit code. Its docstring is what `fuseproof COMMAND --help` says.
`fuseproof --help` imports every module, so slow imports belong in `run`. A new command
is a new module and a name in `fuseproof.cli.COMMANDS`. `arguments`, `completion` and `terminal` are no
commands: the commands share them.
"""

from typing import Final

# The exit code of a command that the user stopped: the shell's convention for a program ended by SIGINT.
INTERRUPTED: Final = 130
