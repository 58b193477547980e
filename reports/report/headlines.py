"""The first screen: for each claim and comparison a sentence, its verdicts, and the rest folded."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from fuseproof.reports.claims import ClaimRow, pooled_sentence
from fuseproof.reports.report import wording
from fuseproof.reports.report.summary import Summary
from fuseproof.reports.report.wording import Verdict


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Where a verdict holds, `inference, peak memory`, with the verdict on each reading."""

    label: str
    readings: tuple[ClaimRow, ...]


@dataclass(frozen=True, kw_only=True)
class Headline:
    """All that a run says of one comparison of a claim.

    sentence: the counts of all passes together, in the first reading. slices: the verdicts, for each pass
    and quantity. verdicts: the same at length, with figures, worst and best.
    """

    sentence: str
    slices: tuple[Slice, ...]
    verdicts: tuple[Verdict, ...]


def headlines(summary: Summary) -> dict[str, list[Headline]]:
    """By claim, a headline for each comparison of each run."""
    return {text: _of_claim(found, summary) for text, found in wording.verdicts(summary, pooled=True).items()}


def _of_claim(found: list[Verdict], summary: Summary) -> list[Headline]:
    compared: dict[tuple[str, str, str, bool], list[Verdict]] = defaultdict(list)
    for verdict in found:
        row = verdict.readings[0]
        compared[row.run, row.candidate, row.baseline, row.estimate].append(verdict)
    return [_headline(verdicts, summary) for verdicts in compared.values()]


def _headline(verdicts: list[Verdict], summary: Summary) -> Headline:
    by_quantity: dict[tuple[str, str], list[ClaimRow]] = defaultdict(list)
    for verdict in verdicts:
        row = verdict.readings[0]
        by_quantity[row.metric, row.cache].append(row)
    metrics = {row.metric for row, *_ in by_quantity.values()}
    caches = {row.cache for row, *_ in by_quantity.values()}
    slices = []
    for verdict in verdicts:
        row = verdict.readings[0]
        parts = [
            wording.words(row.pass_ or "unknown pass"),
            wording.quantity(row) if len(metrics) > 1 else "",
            f"{row.cache} cache" if len(caches) > 1 else "",
        ]
        slices.append(Slice(label=", ".join(filter(None, parts)), readings=verdict.readings))
    run = wording.run_label(next(n for n, each in enumerate(summary.runs) if each.source == row.run), summary)
    first, *more = [pooled_sentence(rows) for rows in by_quantity.values()]
    same = f"On this machine {row.candidate} "
    sentences = [first, *(f"It {one.removeprefix(same)}" if one.startswith(same) else one for one in more)]
    return Headline(
        sentence=" ".join([*sentences, *([f"({run.capitalize()}.)"] if run else [])]),
        slices=tuple(slices),
        verdicts=tuple(verdicts),
    )
