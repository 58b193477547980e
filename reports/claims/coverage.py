"""How many programs an implementation takes: the share of cases in which it gave a right result.

The cases are those in which the baseline gave one, so that a case that nobody can compute counts against no
one. A case that was skipped is not in the share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fuseproof import units
from fuseproof.reports.claims import reductions, rule
from fuseproof.reports.claims.load import SHARE, Claim
from fuseproof.reports.claims.reductions import Reduction
from fuseproof.reports.claims.row import ClaimRow
from fuseproof.runs.records import Run


def rows(run: Run, claim: Claim, pair: tuple[str, str], where: Mapping[str, Any]) -> Iterator[ClaimRow]:
    """A row for each cache regime, pass and dtype, and one for all dtypes where there are several.

    `geomean` is the share, its intervals are Wilson's, by workloads. A claim that speaks of programs
    elsewhere is counted and not judged.
    """
    for (cache, pass_, dtype), cases in reductions.by_slice(_cases(run, *pair)).items():
        here = {**where, "metric": claim.quantity, "cache": cache, "pass_": pass_, "dtype": dtype}
        yield _row(claim, cases, here)


def _cases(run: Run, baseline: str, candidate: str) -> list[Reduction]:
    """A ratio of 1 where the candidate is right, none where it is not."""
    spoilt = {(f.group, f.implementation) for f in run.failures if f.spoils}
    right = {(b.group, b.implementation) for b in run.benchmarks} - spoilt
    reasons = {(f.group, f.implementation): f for f in run.failures}
    found = []
    for group in dict.fromkeys(b.group for b in run.benchmarks if (b.group, baseline) in right):
        failure = reasons.get((group, candidate))
        if (group, candidate) in right:
            found.append(Reduction(group=group, metric="coverage", ratio=1.0))
        elif failure is not None:
            found.append(
                Reduction(
                    group=group,
                    metric="coverage",
                    failed=failure.kind == "error",
                    problem=f"{group}: {candidate}: {failure.message}",
                )
            )
    return found


def _row(claim: Claim, cases: Sequence[Reduction], where: Mapping[str, Any]) -> ClaimRow:
    counted = [case for case in cases if case.ratio is not None or case.failed]
    right = [case.ratio is not None for case in counted]
    share = rule.typical_share(right, [case.operator for case in counted])
    band = claim.band(SHARE)
    interval = (share.low, share.high)
    verdict = "insufficient" if share.of < rule.MIN_CASES else rule.of_mean(interval, band)
    reason = None
    if claim.elsewhere:
        verdict = rule.UNDECIDABLE
        count = f"{where['candidate']} took {share.count} of {units.count(share.of, 'case')} here"
        reason = f"it speaks of programs that no run holds; {count}, which says nothing of those"
    inside = share.of > 0 and band[0] <= share.count / share.of <= band[1]
    return ClaimRow(
        **where,
        **claim.named,
        quantity=claim.quantity,
        reading=SHARE,
        cases=share.count,
        blocks=1,
        failed=share.of - share.count,
        missing=len(cases) - share.of,
        problems=tuple(case.problem for case in cases if case.problem is not None),
        band=band,
        geomean=share.count / share.of if share.of else math.nan,
        ci95=interval,
        ci90=interval,
        ci95_cases=interval,
        share_in_band=float(inside) if share.of else math.nan,
        share_lower=share.low,
        break_even_calls=math.nan,
        verdict=verdict,
        of_all_cases=verdict,
        inside=share.count,
        undecidable=reason,
    )
