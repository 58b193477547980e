"""What a check found: failures and notes of one point or of a grid of them, as text and as objects."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fuseproof import escaping


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One fault.

    what:     which check found it: one of `fuseproof.checking.CHECKS`, or `error` if the function raised.
    where:    the output, gradient or input that shows it; empty if it is none.
    index:    the element that shows it best; None if it is none.
    got, expected: the values there; None if there are none.
    message:  all of it on one line.
    at:       the point of the grid, empty without `over`.
    """

    what: str
    where: str
    index: tuple[int, ...] | None
    got: float | None
    expected: float | None
    message: str
    at: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, kw_only=True)
class Point:
    """What was found at one point of the grid.

    at:      values of the point by name; empty without `over`.
    inputs:  their dtypes and shapes, such as `x float32[5, 129]`.
    errors:  relative RMS error and its limit, of each output and gradient that was compared.
    skipped: why nothing was called here, such as a device that is not there; else empty.
    sought_leak: whether memory that calls keep was looked for.
    """

    at: Mapping[str, Any]
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    inputs: str = ""
    errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    skipped: str = ""
    sought_leak: bool = False

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def label(self) -> str:
        """`rows=129, dtype=bfloat16`."""
        return ", ".join(f"{name}={shown(value)}" for name, value in self.at.items())

    @property
    def summary(self) -> str:
        """The result in a few words."""
        if self.skipped:
            return f"not checked: {self.skipped}"
        if self.failures:
            return f"wrong: {self.failures[0].message}"
        if not self.errors:
            return "right"
        name, (error, limit) = max(self.errors.items(), key=lambda each: each[1][0] / each[1][1])
        return f"right: error of {name} {error:.2g}, limit {limit:.2g}"


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What `fuseproof.check` found.

    function: its name.
    points:   one, or one for each point of the grid `over`.
    """

    function: str
    points: tuple[Point, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong at any point, and at least one was checked."""
        return all(point.ok for point in self.points) and not all(point.skipped for point in self.points)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Of all points."""
        return tuple(failure for point in self.points for failure in point.failures)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not checked and why, and what else a reader must know; each once."""
        return tuple(dict.fromkeys(note for point in self.points for note in point.notes))

    def raise_if_wrong(self) -> None:
        """Raise AssertionError with the report if anything is wrong."""
        __tracebackhide__ = True  # pytest shows the line of the test
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        lines = [self._heading()]
        if len(self.points) > 1:
            lines += _table(self.points)
        for point in self.points:
            if point.failures:
                where = f"{point.label}: " if len(self.points) > 1 else ""
                lines += [f"  {where}{failure.message}" for failure in point.failures]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def __repr__(self) -> str:
        return f"<Checked {self._heading()}>"

    def _heading(self) -> str:
        wrong = sum(not point.ok for point in self.points)
        if len(self.points) == 1:
            (point,) = self.points
            if point.failures:
                return f"{self.function} is wrong, with {point.inputs}:"
            return f"{self.function}: {point.summary}"
        skipped = sum(bool(point.skipped) for point in self.points)
        checked = len(self.points) - skipped
        left_out = f", {skipped} not checked" if skipped else ""
        if wrong:
            return f"{self.function} is wrong at {wrong} of {checked} points{left_out}:"
        return f"{self.function}: right at {checked} points{left_out}"


def shown(value: Any) -> str:
    """A value of a grid, short and on one line."""
    return escaping.line(value if isinstance(value, str) else repr(value))[:40]


def _table(points: tuple[Point, ...]) -> list[str]:
    """A line for each point, its values in columns."""
    names = list(dict.fromkeys(name for point in points for name in point.at))
    rows = [
        [*names, "result"],
        *(
            [*(shown(point.at[name]) if name in point.at else "" for name in names), _short(point)]
            for point in points
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
    return [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]


def _short(point: Point) -> str:
    """The result of a point in the table; failures stand below it in full."""
    if point.failures:
        kinds = dict.fromkeys(failure.what for failure in point.failures)
        return f"WRONG ({', '.join(kinds)})"
    return point.summary
