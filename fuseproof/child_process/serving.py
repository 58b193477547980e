"""The child's side: answers, written so that code which runs between request and answer cannot pass for one.

Foreign code runs in this process, so nothing here is out of its reach for certain. What it would have to
patch (`json`, `os`, `sys.stdout`) is bound before it is loaded, and what it would have to know, the number
that an answer must carry, is read only after it has returned.
"""

from __future__ import annotations

import _json
import contextlib
import ctypes
import fcntl
import json
import os
import random
import resource
import sys
from collections.abc import Callable
from typing import Any

from fuseproof import escaping

# Characters of a message; a compiler's may hold a whole program.
_LONGEST = 500
# A higher one would make the kernel's table of descriptors large.
_MOST_DESCRIPTORS = 4096
_PR_SET_CHILD_SUBREAPER = 36


class PlainError(Exception):
    """An error whose message says all: the answer leaves out the name of its type."""


def serve(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer every request of standard input until it ends, then end the process; see `answer`.

    A request is two lines, the JSON of a mapping and a number; its answer is one, with that number.
    """
    # Code that runs here may replace the attributes of modules; these are C functions that it cannot change.
    answered, write, own, process_id, leave = answer, os.write, os.getpid(), os.getpid, os._exit
    scan, join = _json.make_scanner(json.JSONDecoder()), "".join  # type: ignore[arg-type]
    encode = _json.make_encoder(
        None, _refuse, _json.encode_basestring_ascii, None, ": ", ", ", False, False, True
    )
    # What is printed goes to standard error, and `input()` finds nothing.
    readline = os.fdopen(_moved(0), "rb").readline
    answers = _moved(1)
    os.dup(1)  # bait, at a number that is easily guessed: what is written there is no answer, and is noticed
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    _adopt_orphans()
    while line := readline():
        found = answered(handle, scan(line.decode(), 0)[0])
        if process_id() != own:  # a forked child that came back; only its parent answers
            leave(0)
        number = readline().decode().strip()
        try:
            encoded = join(encode({"number": number, **found}, 0))
        except Exception as error:
            encoded = join(encode({"number": number, "error": described(error)}, 0))
        left = memoryview(f"{encoded}\n".encode())
        while left:
            left = left[write(answers, left) :]
    # At once: a framework takes half a second to clean up what the system frees anyway.
    for printed in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            printed.flush()
    leave(0)


def answer(handle: Callable[[dict[str, Any]], dict[str, Any]], request: dict[str, Any]) -> dict[str, Any]:
    """`ok`: what `handle` returns; else one line, `skipped` for NotImplementedError, `error` for others."""
    try:
        return {"ok": handle(request)}
    except NotImplementedError as error:
        return {"skipped": described(error, named=False) or "not implemented"}
    except PlainError as error:
        return {"error": described(error, named=False)}
    except KeyboardInterrupt:  # Ctrl-C reaches the children that share the terminal's group
        raise
    except BaseException as error:
        return {"error": described(error)}


def one_line(text: str) -> str:
    """`text` in one line, cut after 500 characters, with escapes for what a terminal would act upon.

    Lone surrogates, control characters and marks that change the direction of text become `\\udc80`, `\\x1b`.
    """
    line = escaping.line(text[: 64 * _LONGEST])
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def described(error: BaseException, *, named: bool = True) -> str:
    """The type and message of an exception, whose own methods may raise."""
    try:
        return one_line(f"{type(error).__name__}: {error}" if named else str(error))
    except BaseException as second:
        return f"an exception whose message raises {type.__getattribute__(type(second), '__name__')}"


def _refuse(value: object) -> None:
    raise TypeError(f"the answer holds a {type(value).__name__}, which is no JSON")


def _moved(descriptor: int) -> int:
    """A duplicate that programs do not inherit, at a number that cannot be guessed."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = min(limit, _MOST_DESCRIPTORS) if limit > 0 else _MOST_DESCRIPTORS  # -1 is infinity
    return fcntl.fcntl(
        descriptor, fcntl.F_DUPFD_CLOEXEC, random.SystemRandom().randrange(most // 4, most // 2)
    )


def _adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that the caller can find it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
