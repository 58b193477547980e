"""Mutations of files, drawn from a seed: what a program with a bug, a full disk or a bad mind leaves."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

NESTED = "@@nested@@"  # JSON is nested after it is text: Python writes none that deep
NAUGHTY = (
    "\udc80",
    "\ud800 \udfff",
    "\x00",
    "\x1b]0;t\x07\x1b[31m",
    "\u202e\u2066",
    "<script>alert(1)</script>",
    "![x](http://x)",
    "]]>",
    "\n::error::x\n",
    "a\n|b|\n# c",
    "=1+1",
    "../../etc/passwd",
    "/etc/passwd",
    "",
    "9" * 5000,
    "layer_norm[99999999999999999999x1-float32-forward]",
    "layer_norm[0x0-float32-forward]",
    f"matmul[{'9' * 4500}x1x1-bfloat16-forward_backward-cold]",
    "attention[-float32-forward]",
    "bfloat16",
    "tf.xla",
    "torch.eager-null",
    "kernel",
    "error",
    "{0.__class__}%s%n",
    "[bold]x[/]",
    "é" * 3000,
)
NUMBERS = (
    0,
    -1,
    1,
    2,
    0.5,
    -0.0,
    10**400,
    -(10**400),
    10**29,
    2**31,
    2**63,
    2**64,
    -(2**63),
    1e308,
    -1e308,
    5e-324,
    1e-13,
    float("nan"),
    float("inf"),
    float("-inf"),
)


_PIECES = (b"1e999", b"-", b"NaN", b'"\\ud800"', b"\\", b'"', b"9" * 400, b"\n::error::x\n")
_CHANGES = (
    "drop",
    "retype",
    "retype",
    "number",
    "number",
    "text",
    "text",
    "nest",
    "twice",
    "swap",
    "wrap",
)


_TOML = (
    *("1", "-1", "nan", "inf", "true", "[]", "{}", "[[]]", "[1]", '""', "2026-01-01", "1e999", "9" * 400),
    *(r'"\u001b[31m"', r'"\u0000"', r'"\u202e"', r'"\ud800"', '"<script>alert(1)</script>"'),
    *('["kernels"]', '["throughput"]', '[{ baseline = "tf.eager", candidate = "tf.xla" }]'),
    "[" * 900 + "]" * 900,
    '"""\n::error::x\n"""',
)


def mutations(document: Any, seed: int) -> Iterator[bytes]:
    """Files made of a JSON document, without end: most of them are still JSON."""
    rng = random.Random(seed)
    whole = json.dumps(document)
    while True:
        if rng.random() < 0.15:
            yield damage(whole.encode(), rng)
            continue
        mutated = json.loads(whole)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            mutated = _mutate(mutated, rng)
        text = json.dumps(mutated)
        if NESTED in text:
            depth = rng.choice((50, 100, 900, 900, 50_000))
            open_, close = rng.choice((("[", "]"), ('{"a": ', "}")))
            text = text.replace(f'"{NESTED}"', open_ * depth + "1" + close * depth)
        yield text.encode()


def damage(data: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, overwritten, repeated, or in another encoding."""
    at = rng.randrange(len(data) + 1)
    to = min(at + rng.randrange(1, 64), len(data))
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: data[:at],
        lambda: data[:at] + data[to:],
        lambda: data[:at] + rng.randbytes(rng.randrange(1, 12)) + data[to:],
        lambda: data[:at] + data[at:to] * 3 + data[to:],
        lambda: _flip(data, rng),
        lambda: _flip(data, rng),
        lambda: b"\xef\xbb\xbf" + data,
        lambda: data.decode("latin-1").encode("utf-16"),
        lambda: data + b"\0" * 100,
        lambda: (
            data[:at]
            + rng.choice((b"1e999", b"-", b"NaN", b'"\\ud800"', b"\\", b'"', b"9" * 400))
            + data[to:]
        ),
        lambda: b"",
    )
    return rng.choice(kinds)()


def damage_toml(data: bytes, rng: random.Random) -> bytes:
    """A value replaced by another of TOML, or as `damage`."""
    if rng.random() < 0.4:
        return damage(data, rng)
    lines = data.decode().splitlines()
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(lines))
        key, equals, _ = lines[at].partition(" = ")
        lines[at] = (
            f"{key} = {rng.choice(_TOML)}" if equals else rng.choice((lines[at], "", "[x]", "[[claim]]"))
        )
    return "\n".join(lines).encode()


def _flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _mutate(document: Any, rng: random.Random) -> Any:
    """`document`, changed in one place, with another value there."""
    places = list(_places(document))
    if not places:
        return _value(rng)
    place, key = rng.choice(places)
    what = rng.choice(
        ("drop", "retype", "retype", "number", "number", "text", "text", "nest", "twice", "swap", "wrap")
    )
    if what == "drop":
        del place[key]
    elif what == "retype":
        place[key] = _value(rng)
    elif what == "number":
        place[key] = rng.choice(NUMBERS)
    elif what == "text":
        old = place[key]
        new = rng.choice(NAUGHTY)
        place[key] = old + new if isinstance(old, str) and rng.random() < 0.3 else new
    elif what == "nest":
        place[key] = NESTED
    elif what == "twice" and isinstance(place, list):
        place.insert(rng.randrange(len(place) + 1), json.loads(json.dumps(place[key])))
    elif what == "swap":
        other, its = rng.choice(places)
        if key in _keys(place) and its in _keys(other):
            # By way of text: no part of a document is in another twice, nor in itself.
            one, two = json.dumps(place[key]), json.dumps(other[its])
            place[key], other[its] = json.loads(two), json.loads(one)
    elif what == "wrap":
        place[key] = rng.choice(([place[key]], {"a": place[key]}, {rng.choice(NAUGHTY): place[key]}))
    return document


def _value(rng: random.Random) -> Any:
    return rng.choice(
        (None, True, False, 0, 3.5, "", "x", [], {}, [1], ["x"], {"x": 1}, [[]], [None], {"": []})
    )


def _keys(place: Any) -> Any:
    return place if isinstance(place, dict) else range(len(place))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object in a document, with each of its keys."""
    if isinstance(value, dict | list):
        for key in _keys(value):
            yield value, key
            yield from _places(value[key])
