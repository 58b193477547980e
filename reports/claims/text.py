"""Verdicts in words: one sentence for each, a table for the terminal, one line for each claim."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from fuseproof import escaping
from fuseproof.reports.claims import sentence
from fuseproof.reports.claims.load import ALL_READINGS, REDUCTION, SHARE
from fuseproof.reports.claims.row import ClaimRow
from fuseproof.reports.claims.rule import MIN_BLOCKS, MIN_CASES, VERDICTS
from fuseproof.units import count

if TYPE_CHECKING:
    from rich.text import Text


# What each verdict says, in words for a reader who has not seen the rules in `judge`.
MEANINGS: Mapping[str, str] = {
    "supported": "the 95 % interval of the mean lies inside the claimed band",
    "mean-only": "the mean lies inside the claimed band; that half of the cases do is not shown",
    "refuted-low": "the 95 % interval of the mean lies wholly below the claimed band",
    "refuted-high": "the 95 % interval of the mean lies wholly above the claimed band",
    "inconclusive": "the interval of the mean reaches across a limit of the claimed band",
    "insufficient": f"fewer than {MIN_CASES} cases or {MIN_BLOCKS} blocks were measured",
    "undecidable": "this run or this machine cannot decide the claim, for the reason given",
}
# What a metric is called beside a verdict.
QUANTITIES: Mapping[str, str] = {
    "kernels": "kernels per call",
    "peak_memory": "peak memory",
    "compile_time": "compile time",
    "first_result": "time to the first result",
    "coverage": "right results",
}
_COLOURS = {"supported": "green", "mean-only": "yellow", "refuted-low": "red", "refuted-high": "red"}


def verdict_sentence(row: ClaimRow) -> str:
    """The verdict, then a sentence that says it with its numbers."""
    meaning = {
        "supported": "holds here",
        "mean-only": (
            f"holds for the mean but is not shown to be typical: {row.share_in_band:.0%} of the cases show it"
        ),
        "refuted-low": f"does not hold here, {_less(row)}",
        "refuted-high": f"does not hold here, {_more(row)}",
        "inconclusive": "is neither confirmed nor refuted here",
        "insufficient": f"cannot be judged from {_enough(row)}",
    }.get(row.verdict)
    if meaning is None:
        return f"{row.verdict}: “{row.text}”. {row.sentence}"
    measured = f"{row.candidate} over {row.baseline}, {_conditions(row)}"
    if row.cases:
        measured += f": {_speedup(row)} over {count(row.cases, 'case')}"
    if row.failed:
        measured += f", {row.failed} failed"
    if row.verdict == "insufficient" and row.reading == REDUCTION and row.problems:
        measured += f"; {row.problems[0]}"
    reading = row.reading.replace("_", " ")
    return (
        f"{row.verdict}: “{row.text}” {meaning} "
        f"({measured}; claimed, read as {reading}: {band_words(row.band, row.reading)})."
    )


def band_words(band: tuple[float, float], reading: str = "") -> str:
    """`1.30–1.60×`, `over 1.00×`; of a share `49–100 %`."""
    low, high = band
    if reading == SHARE:
        return f"{100 * low:.0f}–{100 * high:.0f}\u00a0%"
    return f"over {low:.2f}×" if math.isinf(high) else f"{low:.2f}–{high:.2f}×"


def _less(row: ClaimRow) -> str:
    if row.reading == SHARE:
        return "there are fewer"
    if row.reading == REDUCTION:
        return "there are more" if row.ci95[1] < 1 else "there are not fewer"
    return "it is slower" if row.ci95[1] < 1 else "the gain is smaller"


def _more(row: ClaimRow) -> str:
    return "there are more" if row.reading == SHARE else "the gain is larger"


def _enough(row: ClaimRow) -> str:
    if row.reading in (REDUCTION, SHARE):
        return f"{count(row.cases, 'case')} ({MIN_CASES} are needed)"
    return (
        f"{count(row.cases, 'case')} in {count(row.blocks, 'block')} "
        f"({MIN_CASES} and {MIN_BLOCKS} are needed)"
    )


def render_summary(rows: Sequence[ClaimRow]) -> str:
    """One line of 80 columns for each claim, the verdict on its first comparison; then a count of all.

    That comparison is taken over all dtypes where there are several, in the first pass and reading.
    """
    if not rows:
        return ""
    first: dict[str, ClaimRow] = {}
    for row in rows:
        leading = first.setdefault(row.claim, row)
        same = (row.baseline, row.candidate, row.metric, row.cache, row.pass_, row.reading)
        if row.dtype == "all" and same == (
            leading.baseline, leading.candidate, leading.metric, leading.cache, leading.pass_, leading.reading
        ):  # fmt: skip
            first[row.claim] = row
    lines = [f"{'verdict':12}  {'gain (95 %)':21}  cases  claim"]
    for row in first.values():
        gain = _speedup(row) if row.cases else "–"
        lines.append(f"{row.verdict:12}  {gain:21}  {row.cases:5}  {row.claim}")
    if len(rows) > len(first):
        counts = Counter(row.verdict for row in rows)
        compared = "; ".join(f"{row.candidate} over {row.baseline}" for row in first.values())
        tally = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
        lines.append(
            textwrap.fill(
                f"First comparison of each claim: {compared}. All {len(rows)}: {tally}.",
                79,
                break_on_hyphens=False,
            )
        )
    return escaping.terminal("\n".join(lines)) + "\n"


def render_text(rows: Sequence[ClaimRow]) -> str:
    """Each claim on each run with all its verdicts, what failed, and what the verdicts mean.

    As wide as the terminal: COLUMNS, the terminal's width, or 80.
    """
    from rich.console import Console  # not needed by reports and gates

    if not rows:
        return "No run here measured an implementation that a claim is about.\n"
    console = Console(highlight=False)
    with console.capture() as capture:
        judged = [row for row in rows if row.undecidable is None]
        for run, claim in dict.fromkeys((row.run, row.claim) for row in judged):
            of_claim = [row for row in judged if (row.run, row.claim) == (run, claim)]
            console.print(f"“{of_claim[0].text}”, {run}", style="bold", markup=False)
            for line in _matrix(of_claim):
                console.print(line)
            for problem in dict.fromkeys(problem for row in of_claim for problem in row.problems):
                console.print(problem, style="dim", markup=False)
            console.print()
        for run, lines in undecided(rows).items():
            console.print(f"Not decided by {run}:", style="bold", markup=False)
            for reason in lines:
                wrapped = textwrap.fill(
                    reason,
                    console.width - 1,
                    initial_indent="  ",
                    subsequent_indent="    ",
                    break_on_hyphens=False,
                )
                console.print(wrapped, markup=False)
            console.print()
        for verdict in VERDICTS:
            if any(row.verdict == verdict for row in rows):
                console.print(f"{verdict}: {MEANINGS[verdict]}", style="dim")
    return escaping.terminal(capture.get(), colours=True)


def undecided(rows: Sequence[ClaimRow]) -> dict[str, list[str]]:
    """By run, each claim or comparison that the run cannot decide, with the reason, once for all readings."""
    found: dict[str, dict[str, None]] = {}
    judged = {(row.run, row.claim) for row in rows if row.undecidable is None}
    for row in rows:
        if row.undecidable is not None:
            # Of a claim that is judged by other comparisons, which one is missing.
            pair = f", {row.candidate} over {row.baseline}" if (row.run, row.claim) in judged else ""
            found.setdefault(row.run, {})[f"“{row.text}”{pair}: {row.undecidable}."] = None
    return {run: [*lines] for run, lines in found.items()}


def _matrix(rows: Sequence[ClaimRow]) -> Iterator[Text]:
    """For each comparison in each slice its name; its figures and a verdict for each reading; a sentence."""
    from rich.text import Text

    compared: dict[str, dict[str, ClaimRow]] = {}
    for row in rows:
        name = f"{row.candidate} over {row.baseline}, {_conditions(row)}"
        compared.setdefault(name, {})[row.reading] = row
    bands = {row.reading: row.band for row in sorted(rows, key=lambda row: ALL_READINGS.index(row.reading))}
    timed = not {*bands} & {REDUCTION, SHARE}
    limits = [band_words(band, reading) for reading, band in bands.items()]
    headings = [
        ("gain", "cases", "break-even" if timed else "", *("verdict as" for _ in bands)),
        ("(95 %)", "", "calls" if timed else "", *(reading.replace("_", " ") for reading in bands)),
        ("cases resampled" if [*bands] == [REDUCTION] else "", "", "", *limits),
    ]
    yield from (Text(_columns(heading), style="dim") for heading in headings)
    for name, readings in compared.items():
        yield Text(name)
        row = next(iter(readings.values()))
        cells = (
            _speedup(row) if row.cases else "–",
            f"{row.cases} + {row.failed} failed" if row.failed else str(row.cases),
            _calls(row.break_even_calls) if timed else "",
            *(readings[reading].verdict if reading in readings else "" for reading in bands),
        )
        line = Text(_columns(cells))
        for verdict, colour in _COLOURS.items():
            line.highlight_words([verdict], style=colour)
        yield line
        yield Text(row.sentence, style="dim")
        for names in sentence.not_one_line(row):
            yield Text(names, style="dim")


def _columns(cells: Sequence[str]) -> str:
    gain, cases, calls, *verdicts = cells
    return f"  {gain:22}{cases:>13}{calls:>11}" + "".join(f"  {verdict:14}" for verdict in verdicts)


def _conditions(row: ClaimRow) -> str:
    dtype = "all dtypes" if row.dtype == "all" else row.dtype or "dtype unknown"
    cold = ", cold cache" if row.cache == "cold" else ""
    metric = QUANTITIES.get(row.metric, f"{row.metric} time")
    estimated = f", {row.device}, estimated by the compiler" if row.estimate else ""
    return f"{row.pass_ or 'pass unknown'}, {dtype}, {metric}{cold}{estimated}"


def _speedup(row: ClaimRow) -> str:
    low, high = row.ci95
    if row.reading == SHARE:
        return f"{row.geomean:.0%} [{low:.0%}–{high:.0%}]"
    return f"{row.geomean:.3f}× [{low:.3f}–{high:.3f}]"  # digits enough to tell 1.299 from a band's 1.30


def _calls(calls: float) -> str:
    if math.isnan(calls):
        return "–"
    return "never" if math.isinf(calls) else f"{calls:,.0f}"
