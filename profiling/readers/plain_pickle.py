"""Reads pickles of plain data and cannot run code.

Python's Unpickler imports and calls whatever a file names; even if that is forbidden, a few bytes make it
allocate gigabytes (a huge memo index). This reader knows only the opcodes that build dict, list, tuple, str,
bytes, int, float, bool and None, and refuses any other. Its memory is in proportion to the file.
"""

from __future__ import annotations

import struct
from typing import Any

from fuseproof.errors import UserError

_U16 = struct.Struct("<H").unpack_from
_I32 = struct.Struct("<i").unpack_from
_U32 = struct.Struct("<I").unpack_from
_U64 = struct.Struct("<Q").unpack_from
_F64 = struct.Struct(">d").unpack_from


def loads(data: bytes, name: str) -> tuple[Any, int]:
    """The object, and the number of opcodes that built it, which bounds its distinct entries.

    Raises UserError, naming `name`, for a damaged pickle and for an opcode of another kind.
    """
    try:
        return _run(data, name)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError, struct.error):
        raise UserError(f"{name} is a damaged or cut short pickle; record the snapshot again") from None


def _run(data: bytes, name: str) -> tuple[Any, int]:
    stack: list[Any] = []
    marked: list[list[Any]] = []
    memo: dict[int, Any] = {}
    at = operations = 0
    append = stack.append
    # The opcodes most frequent in torch's snapshots come first.
    while True:
        code = data[at]
        at += 1
        operations += 1
        if code == 0x94:  # MEMOIZE
            memo[len(memo)] = stack[-1]
        elif code == 0x68:  # BINGET
            append(memo[data[at]])
            at += 1
        elif code == 0x6A:  # LONG_BINGET
            append(memo[_U32(data, at)[0]])
            at += 4
        elif code == 0x4B:  # BININT1
            append(data[at])
            at += 1
        elif code == 0x4D:  # BININT2
            append(_U16(data, at)[0])
            at += 2
        elif code == 0x4A:  # BININT
            append(_I32(data, at)[0])
            at += 4
        elif code == 0x8A:  # LONG1
            size = data[at]
            append(int.from_bytes(_slice(data, at + 1, size), "little", signed=True))
            at += 1 + size
        elif code == 0x28:  # MARK
            marked.append(stack)
            stack = []
            append = stack.append
        elif code == 0x75:  # SETITEMS
            items, stack = stack, marked.pop()
            append = stack.append
            _dict(stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        elif code == 0x7D:  # EMPTY_DICT
            append({})
        elif code == 0x65:  # APPENDS
            items, stack = stack, marked.pop()
            append = stack.append
            _list(stack[-1]).extend(items)
        elif code == 0x5D:  # EMPTY_LIST
            append([])
        elif code == 0x8C:  # SHORT_BINUNICODE
            size = data[at]
            append(str(_slice(data, at + 1, size), "utf-8", "surrogatepass"))
            at += 1 + size
        elif code == 0x58:  # BINUNICODE
            size = _U32(data, at)[0]
            append(str(_slice(data, at + 4, size), "utf-8", "surrogatepass"))
            at += 4 + size
        elif code == 0x73:  # SETITEM
            value, key = stack.pop(), stack.pop()
            _dict(stack[-1])[key] = value
        elif code == 0x61:  # APPEND
            value = stack.pop()
            _list(stack[-1]).append(value)
        elif code == 0x71:  # BINPUT
            memo[data[at]] = stack[-1]
            at += 1
        elif code == 0x72:  # LONG_BINPUT
            memo[_U32(data, at)[0]] = stack[-1]
            at += 4
        elif code == 0x4E:  # NONE
            append(None)
        elif code == 0x88:  # NEWTRUE
            append(True)
        elif code == 0x89:  # NEWFALSE
            append(False)
        elif code == 0x95:  # FRAME: marks where the writer flushed
            at += 8
        elif code == 0x47:  # BINFLOAT
            append(_F64(data, at)[0])
            at += 8
        elif code == 0x29:  # EMPTY_TUPLE
            append(())
        elif 0x85 <= code <= 0x87:  # TUPLE1, TUPLE2, TUPLE3
            size = code - 0x84
            if len(stack) < size:
                raise IndexError
            stack[-size:] = [tuple(stack[-size:])]
        elif code == 0x74:  # TUPLE
            items, stack = stack, marked.pop()
            append = stack.append
            append(tuple(items))
        elif code == 0x8B:  # LONG4
            size = _I32(data, at)[0]
            append(int.from_bytes(_slice(data, at + 4, size), "little", signed=True))
            at += 4 + size
        elif code == 0x43:  # SHORT_BINBYTES
            size = data[at]
            append(_slice(data, at + 1, size))
            at += 1 + size
        elif code == 0x42:  # BINBYTES
            size = _U32(data, at)[0]
            append(_slice(data, at + 4, size))
            at += 4 + size
        elif code == 0x8D:  # BINUNICODE8
            size = _U64(data, at)[0]
            append(str(_slice(data, at + 8, size), "utf-8", "surrogatepass"))
            at += 8 + size
        elif code in (0x8E, 0x96):  # BINBYTES8, BYTEARRAY8
            size = _U64(data, at)[0]
            append(_slice(data, at + 8, size))
            at += 8 + size
        elif code == 0x80:  # PROTO
            if not 2 <= data[at] <= 5:
                raise ValueError
            at += 1
        elif code == 0x2E:  # STOP
            return stack[-1], operations
        else:
            raise UserError(f"{name} holds more than plain data (pickle opcode {_opcode(code)}): refused")


def _slice(data: bytes, at: int, size: int) -> bytes:
    if size < 0 or at + size > len(data):
        raise IndexError
    return data[at : at + size]


def _dict(value: Any) -> dict[Any, Any]:
    if type(value) is not dict:
        raise TypeError
    return value


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError
    return value


def _opcode(code: int) -> str:
    import pickletools

    return next((each.name for each in pickletools.opcodes if each.code == chr(code)), f"0x{code:02x}")
