"""From runs to a Summary.

A comparison is made within one run, case, metric and cache regime, never across them. Implementations whose
name ends in `-null` are A/A twins: they feed the null control and nothing else.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from fuseproof import privacy, units
from fuseproof.cases import Group, parse_group
from fuseproof.fusion import account as accounts
from fuseproof.reports import claims
from fuseproof.reports.claims import audit
from fuseproof.reports.report.populations import populations
from fuseproof.reports.report.summary import (
    Block,
    Case,
    Claim,
    Interval,
    Mean,
    Missing,
    NullControl,
    Population,
    Row,
    RunInfo,
    Summary,
    Twin,
    Undecided,
    Why,
)
from fuseproof.runs import rounds, run_file, statistics
from fuseproof.runs.records import OWN, Benchmark, Failure, Run, is_twin, without_first_results
from fuseproof.runs.statistics import Comparison, Estimate

_Key = tuple[str, str, str, str]  # group, metric, cache, implementation


def summarise(runs: Sequence[Run], *, beside: Path | None = None, baseline: str | None = None) -> Summary:
    """The contents of a report on `runs`.

    beside:   the folder of the report, for links from it to files of the runs; the current folder if None.
    baseline: the implementation that all others are compared with; OWN: each with its own; None: as each run
        was asked to. Claims name what they compare, and what a compiler changed is told beside its own.

    Raises UserError if that implementation was not measured.
    """
    asked = [run.asked_baseline if run.has_measured(run.asked_baseline) else OWN for run in runs]
    chosen = asked if baseline is None else [baseline] * len(runs)
    rows, means, together = _compared(runs, chosen)
    judged = [claims.matrix([run]) for run in runs]
    return Summary(
        runs=tuple(map(_run_info, runs, chosen)),
        rows=rows,
        means=means,
        populations=together,
        missing=tuple(_missing(index, failure) for index, run in enumerate(runs) for failure in run.failures),
        claims=tuple(
            Claim(run=index, row=row, sentence=claims.verdict_sentence(row))
            for index, found in enumerate(judged)
            for row in found
            if row.undecidable is None
        ),
        undecided=tuple(
            Undecided(run=index, lines=tuple(lines))
            for index, found in enumerate(judged)
            for lines in claims.undecided(found).values()
        ),
        null_control=_null_control([pair for index, run in enumerate(runs) for pair in _twins(index, run)]),
        whys=tuple(why for index, run in enumerate(runs) for why in _whys(index, run, rows, beside)),
    )


def with_baseline(summary: Summary, runs: Sequence[Run], baseline: str) -> Summary:
    """The report with another baseline, which changes its rows, means and populations and nothing else."""
    chosen = [baseline] * len(runs)
    if [run.baseline for run in summary.runs] == chosen:
        return summary
    rows, means, together = _compared(runs, chosen)
    return replace(
        summary,
        runs=tuple(map(_run_info, runs, chosen)),
        rows=rows,
        means=means,
        populations=together,
    )


def _compared(
    runs: Sequence[Run], baselines: Sequence[str]
) -> tuple[tuple[Row, ...], tuple[Mean, ...], tuple[Population, ...]]:
    """The rows, the means and the populations of each run against its baseline."""
    rows: list[Row] = []
    means: list[Mean] = []
    together: list[Population] = []
    for index, (run, baseline) in enumerate(zip(runs, baselines, strict=True)):
        sound = _sound(run.against(baseline))
        pairs = {
            b.name: pair
            for b in sound.values()
            if not is_twin(b.implementation) and (pair := _pair(b, sound))
        }
        rows += [_row(_case(index, b), b, pairs.get(b.name)) for b in _listed(sound.values())]
        means += _means(index, pairs.values())
        together += populations(index, run, pairs.values())
    return tuple(rows), tuple(means), tuple(together)


def _twins(index: int, run: Run) -> Iterator[tuple[Case, Comparison]]:
    """A/A twins, each with its original."""
    sound = _sound(run)
    for b in sound.values():
        if is_twin(b.implementation) and (pair := _pair(b, sound)):
            yield _case(index, b), pair


def _sound(run: Run) -> dict[_Key, Benchmark]:
    """The benchmarks that may be shown: all but those of an implementation that was wrong or crashed.

    One that failed while it was measured keeps the legs it has.
    """
    wrong = {(f.group, f.implementation) for f in run.failures if f.spoils}
    return {
        (b.group, b.metric, b.cache, b.implementation or b.name): b
        for b in run.benchmarks
        if (b.group, b.implementation) not in wrong
    }


def _listed(benchmarks: Iterable[Benchmark]) -> list[Benchmark]:
    """In the order of the run, but case by case, and each baseline before those compared with it."""
    found = [b for b in benchmarks if not is_twin(b.implementation)]
    cases = {key: n for n, key in enumerate(dict.fromkeys((b.group, b.metric, b.cache) for b in found))}
    names = {name: n for n, name in enumerate(dict.fromkeys(b.implementation for b in found))}
    return sorted(
        found,
        key=lambda b: (
            cases[b.group, b.metric, b.cache],
            names.get(b.baseline, len(names)),
            not b.is_baseline,
            names[b.implementation],
        ),
    )


def _pair(benchmark: Benchmark, sound: Mapping[_Key, Benchmark]) -> Comparison | None:
    """`benchmark` with its baseline (an A/A twin with its original), if the two share a block."""
    baseline = sound.get((benchmark.group, benchmark.metric, benchmark.cache, benchmark.baseline or ""))
    if baseline is None or baseline is benchmark or not statistics.block_log_ratios(baseline, benchmark):
        return None
    return baseline, benchmark


def _case(index: int, benchmark: Benchmark) -> Case:
    # A stock pytest-benchmark file knows no operator or shape: its names then stand for the case.
    return Case(
        run=index,
        group=benchmark.group or benchmark.name,
        operator=benchmark.operator or "benchmarks",
        shape=benchmark.shape or benchmark.name,
        dtype=benchmark.dtype or "",
        pass_=benchmark.pass_ or "",
        metric=benchmark.metric,
        cache=benchmark.cache,
    )


def _row(case: Case, benchmark: Benchmark, pair: Comparison | None) -> Row:
    median = statistics.median_with_interval(benchmark)
    speedup = statistics.speedup(*pair) if pair else None
    by_rounds = rounds.speedups(*pair) if pair else None
    break_even = statistics.break_even_calls(*pair) if pair else None
    return Row(
        case=case,
        implementation=benchmark.implementation or benchmark.name,
        baseline=benchmark.baseline,
        is_baseline=benchmark.is_baseline,
        median_seconds=_interval(median),
        speedup=_interval(speedup) if speedup else None,
        speedup_bootstrap=speedup.bootstrap95 if speedup else None,
        speedup_by_median=_interval(by_rounds.median) if by_rounds else None,
        speedup_by_mean=_interval(by_rounds.mean) if by_rounds else None,
        doubt=by_rounds.doubt if by_rounds else None,
        blocks=_blocks(*pair) if pair else (),
        rounds=len(benchmark.seconds),
        flops_per_second=benchmark.flops / median.value if benchmark.flops else None,
        bytes_per_second=benchmark.bytes / median.value if benchmark.bytes else None,
        compile_seconds=benchmark.compile_seconds,
        graphs=benchmark.graphs,
        graph_breaks=benchmark.graph_breaks,
        recompiles=benchmark.recompiles,
        break_even_calls=_interval(break_even) if break_even else None,
        peak_memory_bytes=benchmark.peak_memory_bytes,
        error=benchmark.error_relative_rms,
        error_limit=benchmark.error_limit,
        first_call_seconds=benchmark.first_call_seconds,
        export_seconds=benchmark.export_seconds,
        load_seconds=benchmark.load_seconds,
        artifact_bytes=benchmark.artifact_bytes,
    )


def _interval(estimate: Estimate) -> Interval:
    low, high = estimate.ci95
    known = estimate.blocks > 1
    return Interval(
        value=estimate.value,
        low=low if known else None,
        high=high if known else None,
        blocks=estimate.blocks,
    )


def _blocks(baseline: Benchmark, candidate: Benchmark) -> tuple[Block, ...]:
    """The replicates behind a speedup, which the report shows beside its interval."""
    speedups = statistics.block_log_ratios(baseline, candidate)
    return tuple(
        Block(
            block=block,
            speedup=math.exp(speedups[block]),
            palindromes=tuple(math.exp(ratio) for ratio in ratios),
        )
        for block, ratios in sorted(statistics.palindrome_log_ratios(baseline, candidate).items())
    )


def _means(index: int, pairs: Iterable[Comparison]) -> Iterator[Mean]:
    """Geometric means of an implementation, pass, metric and cache: over all cases, a dtype, an operator."""
    scopes: dict[tuple[str | None, ...], list[Comparison]] = defaultdict(list)
    for baseline, b in pairs:
        for operator, dtype in ((None, None), (None, b.dtype), (b.operator, None)):
            key = (b.implementation, b.baseline, b.pass_, b.metric, b.cache, operator, dtype)
            scopes[key].append((baseline, b))
    for (implementation, base, pass_, metric, cache, operator, dtype), members in scopes.items():
        # Resampling cases asks "for operators like these?", which one operator cannot answer.
        low, high = (0.0, math.inf) if operator else statistics.geometric_mean_over_cases(members)
        yield Mean(
            run=index,
            implementation=implementation or "",
            baseline=base or "",
            pass_=pass_ or "",
            metric=metric or "",
            cache=cache or "",
            operator=operator,
            dtype=dtype,
            cases=len(members),
            speedup=_interval(statistics.geometric_mean(members)),
            resampled=(low, high) if low > 0 and high < math.inf else None,
        )


def _missing(index: int, failure: Failure) -> Missing:
    # A failure names its case by its group only; any other name is shown as it is.
    parts = parse_group(failure.group) or Group(
        operator=failure.group, shape="", dtype="", pass_="", cache=""
    )
    return Missing(
        run=index,
        group=failure.group,
        **vars(parts),
        implementation=failure.implementation,
        kind=failure.kind,
        stage=failure.stage,
        message=failure.message,
    )


def _whys(index: int, run: Run, rows: Sequence[Row], beside: Path | None) -> Iterator[Why]:
    """The fusion account in a run's directory, of the implementations that the report shows."""
    source = Path(run.source)
    folder = source if source.is_dir() else source.parent
    found = accounts.load(folder)
    accounted = {(each.case, each.implementation) for each in found}
    reported: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.case.run == index:
            reported.setdefault((row.case.group, row.implementation), row)
    sound = _sound(run)
    own: dict[tuple[str, str | None], Interval] = {}
    for each in sound.values():
        if (each.group, each.implementation) in accounted and (pair := _pair(each, sound)):
            own.setdefault((each.group, each.implementation), _interval(statistics.speedup(*pair)))
    for account in found:
        row_of_it = reported.get((account.case, account.implementation))
        if row_of_it is not None:
            yield Why(
                case=row_of_it.case,
                speedup=own.get((account.case, account.implementation)),
                account=account,
                links=tuple(
                    (label, link)
                    for label, place in account.artifacts.items()
                    if (link := _link(folder / place, beside))
                ),
            )


def _link(file: Path, beside: Path | None) -> str:
    """A relative link: it works from disk as long as report and file are moved together.

    Empty where the way there names the user.
    """
    way = os.path.relpath(file.absolute(), (beside or Path()).absolute()).replace(os.sep, "/")
    return quote(os.fsencode(way)) if privacy.anonymous(way) == way else ""


def _null_control(twins: Sequence[tuple[Case, Comparison]]) -> NullControl | None:
    if not twins:
        return None
    contained, total = statistics.null_coverage([pair for _, pair in twins])
    return NullControl(
        contained=contained,
        total=total,
        twins=tuple(
            Twin(
                case=case,
                implementation=pair[0].implementation or "",
                ratio=_interval(statistics.speedup(*pair)),
            )
            for case, pair in twins
        ),
    )


def _run_info(run: Run, baseline: str) -> RunInfo:
    calls = without_first_results(run).benchmarks  # whose blocks are others
    there = {each.group for each in run.benchmarks if each.implementation == baseline}
    uncompared = [] if baseline == OWN else [each.group for each in run.benchmarks if each.group not in there]
    return RunInfo(
        source=run.label,
        file=_file_of(run),
        suite=run.suite,
        datetime=run.datetime,
        complete=run.complete,
        fingerprint=run.fingerprint,
        machine=_machine(run),
        blocks=max((len(set(b.block.tolist())) for b in calls), default=0),
        samples=sum(len(b.seconds) for b in run.benchmarks),
        # A stock file names the host.
        environment=run.environment or {k: v for k, v in run.machine_info.items() if k != "node"},
        settings=run.settings,
        commit=run.commit_info,
        audit=audit.audit(run),
        baseline=baseline,
        uncompared=tuple(dict.fromkeys(uncompared)),
    )


def _file_of(run: Run) -> str:
    """Where its samples are, as a page may show it."""
    named = Path(run.label)
    if named.suffix in (".json", ".gz"):
        return str(named)
    return str(
        named / run_file.file_of(Path(run.source)).name if Path(run.source).is_dir() else named / "run.json"
    )


def _machine(run: Run) -> str:
    """Processor, threads and device in one line, without those that the run did not record."""
    cpu = run.environment.get("cpu") or run.machine_info.get("cpu") or {}
    model = (cpu.get("model") or cpu.get("brand_raw")) if isinstance(cpu, Mapping) else str(cpu)
    threads = run.settings.get("threads") or run.environment.get("threads")
    parts = [str(model)] if model else []
    if isinstance(threads, int):
        parts.append(units.count(threads, "thread"))
    devices = sorted({b.device for b in run.benchmarks if b.device})
    parts += [device.upper() if device in ("cpu", "tpu", "gpu") else device for device in devices]
    return ", ".join(parts) or "an unnamed machine"
