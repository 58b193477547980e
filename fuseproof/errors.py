"""The one exception a user is meant to read, and its most frequent cause."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the message is one line that names what is wrong and the remedy. The CLI exits with 2."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: that line, and no traceback."""
        return ["UserError: " + "".join(each if each.isprintable() else " " for each in str(self))]


def require_known(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises UserError, with all known names, for the first given name that is not one of them."""
    names = dict.fromkeys(known)
    for name in given:
        if name not in names:
            raise UserError(f"unknown {kind} {name!r}; there are {', '.join(names)}")
