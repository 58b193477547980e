"""What must not leave the machine with a run, a page or a record: whose machine it is, and where files lie.

Texts are cleaned where they enter a record, so that every file and page made of it is clean.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fuseproof import escaping

# Accounts that say nothing of who uses them, and are frequent as words.
_ANYONE: Final = frozenset(
    ("root", "user", "users", "admin", "ubuntu", "debian", "runner", "docker", "nobody", "home", "test")
)
_MACHINE_ID: Final = Path("/etc/machine-id")


def anonymous(text: str) -> str:
    """`text` without the names of this user and host, and without home folders.

    A path below the current folder becomes relative, a home folder `~`, the host's name `host`; the user's
    name becomes `user` where it is part of a path or an address.
    """
    for pattern, instead in _patterns(_current_folder(), _homes(), _users(), platform.node()):
        text = pattern.sub(instead, text)
    return text


def anonymous_document(value: Any) -> Any:
    """Plain data with every text in it on one line, `escaping.visible` and `anonymous`; keys stay."""
    if isinstance(value, str):
        return escaping.line(anonymous(value))
    if isinstance(value, Mapping):
        return {key: anonymous_document(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(anonymous_document(inner) for inner in value)
    return value


def machine_id() -> str:
    """The same for every run of a machine, and nothing can be found out from it; empty where it is unknown.

    machine-id(5) asks for a keyed hash: the identifier itself is confidential.
    """
    try:
        identifier = _MACHINE_ID.read_bytes().strip()
    except OSError:
        return ""
    return hmac.new(identifier, b"fuseproof", hashlib.sha256).hexdigest()[:16] if identifier else ""


@functools.lru_cache(maxsize=8)
def _patterns(
    folder: str, homes: tuple[str, ...], users: tuple[str, ...], host: str
) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Regular expressions and what takes the place of their matches, in this order."""
    # A path begins where no longer one goes on, and ends at the end of a name.
    begin, end = r"(?<![\w.~-])", r"(?![\w.-]*[\w-])"
    found = []
    if len(folder) > 1:
        found += [
            (rf"{begin}{re.escape(folder)}/(?=[\w.@+~-])", ""),
            (f"{begin}{re.escape(folder)}{end}", "."),
        ]
    found += [(f"{begin}{re.escape(home)}{end}", "~") for home in homes]
    found.append(
        (rf"{begin}/(?:home|Users)/[^/\s:'\",;)\]}}]+", "~")
    )  # somebody's, or this one by another path
    for user in users:
        name = re.escape(user)
        found.append((rf"(?<=[/_@-]){name}(?![A-Za-z0-9])|(?<![A-Za-z0-9]){name}(?=[/@])", "user"))
    for name in dict.fromkeys((host, host.partition(".")[0])):
        if name not in ("", "localhost"):
            found.append((rf"(?<!\w){re.escape(name)}(?!\w)", "host"))
    return tuple((re.compile(pattern), instead) for pattern, instead in found)


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted
        return ""


def _homes() -> tuple[str, ...]:
    given = os.environ.get("HOME", ""), _account()[1]
    homes = {path for home in given if home for path in (home.rstrip("/"), os.path.realpath(home))}
    return tuple(sorted((home for home in homes if len(home) > 1), key=len, reverse=True))


def _users() -> tuple[str, ...]:
    names = {os.environ.get("USER", ""), os.environ.get("LOGNAME", ""), _account()[0]}
    return tuple(sorted(name for name in names if len(name) > 1 and name.lower() not in _ANYONE))


@functools.cache
def _account() -> tuple[str, str]:
    """Name and home folder by the system's list of users; empty where it has none for this one."""
    try:
        import pwd

        entry = pwd.getpwuid(os.getuid())
    except (ImportError, KeyError):
        return "", ""
    return entry.pw_name, entry.pw_dir
