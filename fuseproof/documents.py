"""Reads JSON that any program may have written: plain, bounded data, or one line that says why not."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any, Final

from fuseproof import escaping
from fuseproof.errors import UserError

_DEEPEST: Final = 64  # lists and objects in each other; nothing that is meant for us comes near
_LARGEST: Final = 10**30  # of an integer; figures made of several still fit into a float
_LONGEST_REASON: Final = 200  # characters
_LARGEST_UNPACKED: Final = 2**30  # bytes; a run of a day has a tenth


def load(path: Path, *, wanted: str) -> Any:
    """The JSON document in the file `path`, as `parse` gives it; one that ends in `.gz` is unpacked.

    Raises FileNotFoundError or NotADirectoryError without the file, and UserError if it cannot be read.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    return parse(_unpacked(data, path) if path.suffix == ".gz" else data, path, wanted=wanted)


def _unpacked(data: bytes, path: Path) -> bytes:
    """What gzip packed. Raises UserError for anything else, and for more than fits in memory easily."""
    unpacking = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = unpacking.decompress(data, _LARGEST_UNPACKED)
    except zlib.error as error:
        raise UserError(f"cannot read {path}: it is not packed by gzip ({error})") from None
    if not unpacking.eof:
        whole = "it is cut off" if len(found) < _LARGEST_UNPACKED else "it holds more than 1 GiB"
        raise UserError(f"cannot read {path}: {whole}")
    return found


def parse(data: bytes, path: Path, *, wanted: str) -> Any:
    """The JSON document in `data`, which the file `path` holds, made `plain`.

    wanted: what the file should be or what to do about it, for messages: "expected a run.json".
    Raises UserError, in one line, for what is no JSON, is nested too deeply or has too large an integer.
    """
    try:
        return plain(json.loads(data.decode("utf-8-sig")))
    except UnicodeDecodeError:
        raise UserError(f"cannot read {path}: it is not UTF-8 text; {wanted}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({reason(error)}); {wanted}") from None


def plain(value: Any, depth: int = 0) -> Any:
    """A parsed document with its texts `escaping.visible`, and None, unknown, for NaN and infinity.

    Raises ValueError for an integer of more than 30 digits, and for a document nested too deeply.
    """
    if isinstance(value, str):
        return escaping.visible(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):  # booleans too
        if abs(value) > _LARGEST:
            raise ValueError("an integer has more than 30 digits")
        return value
    if depth == _DEEPEST:
        raise ValueError(f"nested more than {_DEEPEST} levels deep")
    if isinstance(value, list):
        # Samples and their blocks, of which there are hundreds of thousands: as a whole, not one by one.
        kinds = set(map(type, value))
        if kinds == {float} and math.isfinite(sum(value)):
            return value
        if kinds == {int} and -_LARGEST <= min(value) <= max(value) <= _LARGEST:
            return value
        return [plain(inner, depth + 1) for inner in value]
    if isinstance(value, dict):
        return {escaping.visible(key): plain(inner, depth + 1) for key, inner in value.items()}
    return value


def refuse_other_schema(found: Any, newest: int, oldest: int = 1) -> None:
    """Raises ValueError unless a document's schema number is one that this version reads."""
    if isinstance(found, int) and not isinstance(found, bool) and found > newest:
        raise ValueError(f"a newer version of fuseproof wrote it, as schema {found}; update fuseproof")
    if not isinstance(found, int) or isinstance(found, bool) or found < oldest:
        raise ValueError(f"schema {found!r}; this version of fuseproof reads {newest}")


def reason(error: Exception) -> str:
    """What an exception about a document says, short and on one line."""
    text = escaping.line(f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__)
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
