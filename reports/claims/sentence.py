"""A verdict's counts in one plain sentence, the same in text, JSON, Markdown and page.

`On this machine torch.compile made 9 of 24 cases faster than torch.eager by 30–60 %, 5 faster by less, 4
slower (worst …, best …); 2 failed …`
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fuseproof import units

if TYPE_CHECKING:
    from fuseproof.reports.claims.row import ClaimRow

_LESS = {
    "kernels": ("launched fewer kernels", "more kernels"),
    "memory": ("took less memory at its peak", "more memory"),
    "compile_time": ("compiled faster", "compiled slower"),
}


def of(row: ClaimRow) -> str:
    """The sentence of a judged row; of an undecidable one, the reason."""
    if row.undecidable is not None:
        return f"This run cannot decide it: {row.undecidable}."
    if row.quantity == "coverage":
        return _coverage(row)
    return f"{_counted(row)}{_extremes(row)}{_not_one_line(row)}{_lost(row)}".rstrip(".") + "."


def pooled(rows: Sequence[ClaimRow]) -> str:
    """The sentence of several slices of one comparison together, such as its passes, in one reading.

    Without reasons and the cases' whole names: each row has them.
    """
    added = ("cases", "failed", "missing", "inside", "above", "below", "slower", "set_aside")
    row = replace(
        rows[0],
        **{name: sum(getattr(each, name) for each in rows) for name in added},
        problems=(),
        broke=tuple(name for each in rows for name in each.broke),
        recompiled=tuple(name for each in rows for name in each.recompiled),
        worst=min((each.worst for each in rows if each.worst), key=lambda case: case[1], default=None),
        best=max((each.best for each in rows if each.best), key=lambda case: case[1], default=None),
    )
    if row.quantity == "coverage":
        return _coverage(row)
    extremes = _extremes(row, whole=False) if row.quantity not in _LESS else ""
    return f"{_counted(row)}{extremes}{_not_one_line(row)}{_lost(row)}."


def not_one_line(row: ClaimRow) -> list[str]:
    """`3 broke the graph: bert[…], …`, and those that were compiled again; empty where neither happened."""
    return [
        f"{len(names)} {what}: {', '.join(names)}"
        for what, names in (("broke the graph", row.broke), ("recompiled", row.recompiled))
        if names
    ]


def gain_words(row: ClaimRow) -> str:
    """The claimed gain in percent, as the reading counts it: `30–60 %`, `43 % or more`; empty for any."""
    low, high = row.band
    if row.reading == "throughput":
        least, most = low - 1, high - 1
    else:
        least, most = 1 - 1 / low, 1 - 1 / high if high < math.inf else math.inf
    if least < 1e-9:
        return "" if math.isinf(most) else f"up to {_percent(most)}\u00a0%"
    return (
        f"{_percent(least)}\u00a0% or more"
        if math.isinf(most)
        else f"{_percent(least)}–{_percent(most)}\u00a0%"
    )


def _coverage(row: ClaimRow) -> str:
    """`torch.script gave a right result in 20 of 24 cases …`."""
    of = units.count(row.cases + row.failed, "case")
    line = f"On this machine {row.candidate} gave a right result in {row.cases} of {of} that {row.baseline}"
    return f"{line} computes{_lost(row)}".rstrip(".") + "."


def _lost(row: ClaimRow) -> str:
    """What failed and was not measured, with the first reason."""
    lost = [f"{n} {word}" for n, word in ((row.failed, "failed"), (row.missing, "not measured")) if n]
    return f"; {', '.join(lost)}{_causes(row)}" if lost else ""


def _not_one_line(row: ClaimRow) -> str:
    counts = ((len(row.broke), "broke the graph"), (len(row.recompiled), "recompiled"))
    found = [f"{n} {what}" for n, what in counts if n]
    return f"; {', '.join(found)}" if found else ""


def _inside(row: ClaimRow) -> str:
    counted = f"{row.inside} of {units.count(row.cases + row.failed + row.missing, 'case')}"
    gain = gain_words(row)
    if row.quantity in _LESS:
        return f"{_LESS[row.quantity][0]} than {row.baseline} in {counted}" + (f", by {gain}" if gain else "")
    if row.reading == "time_reduction":
        way = "came to its first result in" if row.quantity == "time_to_first_result" else "took"
        return f"{way} {gain}{' ' if gain else ''}less time than {row.baseline} in {counted}"
    return f"made {counted} faster than {row.baseline}" + (f" by {gain}" if gain else "")


def _beside(row: ClaimRow) -> list[str]:
    """How many gained more, less, and lost."""
    less = row.below - row.slower
    is_time = row.quantity not in _LESS
    return [
        f"{n} {words}"
        for n, words in (
            (row.above, "by more"),
            (less, "by less" if row.band[0] > 1 else "the same"),
            (row.slower, "slower" if is_time else _LESS[row.quantity][1]),
            (row.set_aside, "as claimed but not by one line"),
        )
        if n
    ]


def _counted(row: ClaimRow) -> str:
    where = f"By the compiler's estimates for {row.device}" if row.estimate else "On this machine"
    return f"{where} {row.candidate} {_inside(row)}" + "".join(f", {part}" for part in _beside(row))


def _extremes(row: ClaimRow, *, whole: bool = True) -> str:
    """The worst and the best case; not `whole`: by their workloads."""

    def named(case: tuple[str, float]) -> str:
        name = case[0] if whole else case[0].partition("[")[0]
        return f"{name} {units.times(case[1])}"

    if row.worst is None or row.best is None:
        return ""
    return (
        f" ({named(row.worst)})" if row.cases == 1 else f" (worst {named(row.worst)}, best {named(row.best)})"
    )


def _causes(row: ClaimRow) -> str:
    """The first reason, and how many more there are."""
    if not row.problems:
        return ""
    more = f" … and {len(row.problems) - 1} more" if len(row.problems) > 1 else ""
    return f": {row.problems[0]}{more}"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:,.0f}" if percent >= 1000 else f"{percent:.3g}"
