"""What all cases of an implementation say together: failures counted, families left out, variance budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from fuseproof.cases import parse_group
from fuseproof.reports.report.summary import Population
from fuseproof.runs import population, statistics, variance
from fuseproof.runs.population import Member
from fuseproof.runs.records import Run
from fuseproof.runs.statistics import Comparison

# Speedups inside are about the same as the baseline: what most people would not notice.
ABOUT_THE_SAME = (1 / 1.05, 1.05)

_Slice = tuple[str, str, str, str]  # implementation, pass, metric, cache


def populations(index: int, run: Run, pairs: Iterable[Comparison]) -> Iterator[Population]:
    """One for each implementation, baseline, pass, metric and cache regime with two measured cases or more.

    pairs: all comparisons of the run. An error without any comparison is a failed case, whichever of the two
    sides it was of.
    """
    compared: dict[tuple[_Slice, str], list[Comparison]] = defaultdict(list)
    for baseline, b in pairs:
        key = (b.implementation or "", b.pass_ or "", b.metric, b.cache)
        compared[key, b.baseline or ""].append((baseline, b))
    for ((implementation, pass_, metric, cache), base), found in compared.items():
        if len(found) < 2:
            continue
        failed = _failed_families(run, {implementation, base}, pass_, cache, {b.group for b, _ in found})
        members = [
            *(
                Member(
                    family=baseline.operator or baseline.group,
                    log_ratios=statistics.block_log_ratios(baseline, b),
                )
                for baseline, b in found
            ),
            *(Member(family=family, log_ratios={}) for family in failed),
        ]
        yield Population(
            run=index,
            implementation=implementation,
            baseline=base,
            pass_=pass_,
            metric=metric,
            cache=cache,
            families=len({member.family for member in members}),
            means=population.means(members),
            shares=population.shares(members, ABOUT_THE_SAME),
            left_out=population.leave_one_family_out(members),
            budget=_budget(found),
        )


def _failed_families(run: Run, sides: set[str], pass_: str, cache: str, compared: set[str]) -> list[str]:
    """The workloads of the cases in which one of the two failed and that have no comparison."""
    groups = dict.fromkeys(
        each.group
        for each in run.failures
        if each.kind == "error" and each.implementation in sides and each.group not in compared
    )
    parts = [parse_group(group) for group in groups]
    return [
        part.operator for part in parts if part is not None and (part.pass_, part.cache) == (pass_, cache)
    ]


def _budget(found: Iterable[Comparison]) -> variance.Budget | None:
    palindromes = [list(statistics.palindrome_log_ratios(*pair).values()) for pair in found]
    if max(map(len, palindromes)) < 2:
        return None
    return variance.budget(palindromes)
