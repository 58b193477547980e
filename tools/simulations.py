"""Simulations with known truth behind the statistics: do intervals cover, are verdicts right?

    python tools/simulations.py [NAME …] [--repetitions N] [--seed N]

Without a NAME all of them, a table each; docs/explanation/statistics-simulated.md has the figures of one run,
and what they mean. What is tried are the functions of Fuseproof, called, not copied. It takes one core some
minutes, and the same seed gives the same figures.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fuseproof.errors import UserError, require_known
from fuseproof.reports import claims
from fuseproof.reports.claims import rule
from fuseproof.runs import population, rounds, statistics
from fuseproof.runs.records import Benchmark, Run

REPETITIONS = 2000
SEED = 13
BLOCKS, PALINDROMES, ROUNDS = 5, 10, 3
ROUND_NOISE = 0.02
PAIR = ("torch.eager", "torch.compile")
BAND = (1.30, 1.60)  # 30 to 60 % more throughput

Floats = NDArray[np.float64]
Drift = Callable[[np.random.Generator, tuple[int, int]], Floats]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Under one setting, how often each thing happened in `of` repetitions."""

    setting: Mapping[str, str]
    counts: Mapping[str, int]
    of: int

    def share(self, name: str) -> float:
        return self.counts[name] / self.of


# What the clock adds to every leg of a block, blocks × legs, in ln(seconds).


def _none(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return np.zeros(shape)


def _steady(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return np.broadcast_to(np.linspace(0, 0.10, shape[1]), shape)


def _wandering(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return 0.01 * rng.standard_normal(shape).cumsum(axis=1)


def _bursts(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Stretches of ten legs, a tenth of the time."""
    starts = rng.random(shape) < 0.01
    return 0.20 * np.stack([np.convolve(row, np.ones(10))[: shape[1]] > 0 for row in starts])


DRIFTS: Mapping[str, Drift] = {
    "none": _none,
    "10 % over a block": _steady,
    "random walk, 1 % a leg": _wandering,
    "bursts of 20 %": _bursts,
}


def benchmark(implementation: str, logs: Floats, workload: str = "mlp") -> Benchmark:
    """logs: ln(seconds), blocks × legs × rounds."""
    blocks, legs, number = logs.shape
    case = f"{workload}[1x1-float32-inference]"
    return Benchmark(
        name=f"{case} {implementation}",
        group=case,
        seconds=np.exp(logs).ravel(),
        block=np.repeat(np.arange(blocks), legs * number),
        leg=np.tile(np.repeat(np.arange(legs), number), blocks),
        operator=workload,
        dtype="float32",
        pass_="inference",
        implementation=implementation,
        baseline=PAIR[0],
    )


def measured(
    rng: np.random.Generator, *, speedup: float, process: float, drift: str = "none"
) -> statistics.Comparison:
    """A comparison as a run measures it: legs in palindromes, drawn as A B B A or B A A B, on one clock.

    process: standard deviation of ln(seconds) between processes, one process for each side and block.
    drift:   of DRIFTS, the same for both sides.
    """
    first = rng.integers(2, size=(BLOCKS, PALINDROMES, 1))
    order = np.concatenate([first, 1 - first, 1 - first, first], axis=2).reshape(BLOCKS, -1)
    clock = DRIFTS[drift](rng, order.shape)
    sides = []
    for side, level in enumerate((math.log(speedup), 0.0)):
        legs = clock[order == side].reshape(BLOCKS, -1) + process * rng.standard_normal((BLOCKS, 1))
        noise = ROUND_NOISE * rng.standard_normal((*legs.shape, ROUNDS))
        sides.append(benchmark(PAIR[side], level + legs[:, :, None] + noise))
    return sides[0], sides[1]


def coverage(rng: np.random.Generator, repetitions: int) -> Iterator[Rates]:
    """Intervals of one speedup that contain the true one: 5 blocks of 10 palindromes of 3 rounds"""
    for process in (0.005, 0.01, 0.02):
        for drift in DRIFTS:
            held = {"t interval": 0, "bootstrap": 0}
            for _ in range(repetitions):
                found = statistics.speedup(*measured(rng, speedup=1.45, process=process, drift=drift))
                for name, interval in zip(held, (found.ci95, found.bootstrap95), strict=True):
                    held[name] += interval is not None and interval[0] <= 1.45 <= interval[1]
            setting = {"between processes": f"{process:.1%}", "drift": drift}
            yield Rates(setting=setting, counts=held, of=repetitions)


def levels(
    rng: np.random.Generator, shape: tuple[int, ...], *, mean: float, spread: float, alike: float = 0.0
) -> Floats:
    """ln(speedup) of drawn cases, … × families × cases of each.

    spread: standard deviation of all; alike: the part of its square that cases of one family share.
    """
    family = math.sqrt(alike) * rng.standard_normal((*shape[:-1], 1))
    own = math.sqrt(1 - alike) * rng.standard_normal(shape)
    return math.log(mean) + spread * (family + own)


def means(rng: np.random.Generator, repetitions: int) -> Iterator[Rates]:
    """Intervals of a geometric mean that contain the true one: of these cases, and of all cases like these"""
    for families, each, alike in ((9, 1, 0.0), (9, 4, 0.8), (12, 1, 0.0), (24, 1, 0.0), (24, 2, 0.8)):
        held = {"these cases": 0, "cases resampled": 0}
        names = [str(n) for n in range(families) for _ in range(each)]
        for _ in range(repetitions):
            true = levels(rng, (families, each), mean=1.45, spread=0.2, alike=alike).reshape(-1, 1)
            state = 0.005 * rng.standard_normal(BLOCKS)  # of the machine, for all cases of a block
            ratios = true + state + 0.01 * math.sqrt(2) * rng.standard_normal((families * each, BLOCKS))
            low, high = np.log(statistics.mean_of_ratios(ratios).ci95)
            held["these cases"] += bool(low <= true.mean() <= high)
            low, high = statistics.interval_over_cases(ratios, names)
            held["cases resampled"] += low <= 1.45 <= high
        setting = {"families": str(families), "cases of each": str(each), "alike": f"{alike:.0%}"}
        yield Rates(setting=setting, counts=held, of=repetitions)


def kernels(
    rng: np.random.Generator, shape: tuple[int, ...], *, fused: float, alike: float
) -> tuple[Floats, Floats]:
    """Kernels of a call before and after fusion, … × families × cases of each: small whole numbers.

    fused: the mean share of the kernels beyond the first that fusion removes; families differ in it, and in
    how many kernels they have. alike: the part of the variance that cases of one family share.
    """
    size = levels(rng, shape, mean=8.0, spread=0.7, alike=alike)
    before = 1 + rng.poisson(np.exp(size))
    kept = 1 - np.clip(fused + 0.2 * levels(rng, shape, mean=1.0, spread=1.0, alike=alike), 0, 1)
    return before.astype(np.float64), 1.0 + rng.binomial(before - 1, kept)


def counts(rng: np.random.Generator, repetitions: int) -> Iterator[Rates]:
    """Intervals of a geometric mean of counts, kernels without over with fusion, that contain the true one of
    all cases like these"""
    for families, each, alike in ((3, 2, 0.8), (5, 1, 0.0), (9, 1, 0.0), (9, 2, 0.8), (24, 1, 0.0)):
        names = [str(n) for n in range(families) for _ in range(each)]
        before, after = kernels(rng, (200_000, 1), fused=0.6, alike=alike)
        truth = math.exp(np.log(before / after).mean())
        held = {"95 % interval": 0, "90 % interval": 0}
        for _ in range(repetitions):
            before, after = kernels(rng, (families, each), fused=0.6, alike=alike)
            found = statistics.geometric_mean_of_counts([*(before / after).ravel()], names)
            for name, (low, high) in zip(held, (found.ci95, found.ci90), strict=True):
                held[name] += low <= truth <= high
        setting = {"families": str(families), "cases of each": str(each), "alike": f"{alike:.0%}"}
        yield Rates(setting=setting, counts=held, of=repetitions)


CLAIM = f"""
[[claim]]
id = "simulated"
text = "30–60 %"
source = "a simulation"
low = {BAND[0] - 1}
high = {BAND[1] - 1}
typical = true
comparisons = [{{ baseline = "{PAIR[0]}", candidate = "{PAIR[1]}" }}]
"""


def population_run(rng: np.random.Generator, true: Floats, process: float) -> Run:
    """A run over cases whose ln(speedup) is `true`, (cases,): one palindrome of one round in each block."""
    noise = process * rng.standard_normal((2, len(true), BLOCKS, 1, 1)) + np.zeros((2, 1))
    noise[0] += true[:, None, None, None]
    return Run(
        source="simulated", suite=None, fingerprint=None, fingerprint_fields={}, environment={},
        machine_info={}, commit_info={}, datetime=None, complete=True,
        benchmarks=tuple(
            benchmark(PAIR[side], noise[side, case], f"case{case}")
            for case in range(len(true)) for side in (0, 1)
        ),
    )  # fmt: skip


def is_wrong(verdict: str, truth: float, band: tuple[float, float]) -> bool:
    """Whether it asserts of the mean what is not so: supported for refuted, or the reverse."""
    low, high = band
    return {
        "supported": not low <= truth <= high,
        "mean-only": not low <= truth <= high,
        "refuted-low": truth >= low,
        "refuted-high": truth <= high,
    }.get(verdict, False)


WRONG = ("wrong: these cases", "wrong: all cases", "wrongly typical")
RESAMPLED = ("settled, if resampled", "wrong, if resampled")


def verdicts(rng: np.random.Generator, repetitions: int) -> Iterator[Rates]:
    """Verdicts on "typically 30–60 %" in both readings, over 12 cases with 1 % of noise between processes"""
    for truth in (1.10, 1.25, 1.45, 1.55, 1.75, 2.5):
        for spread in (0.1, 0.2, 0.3):
            yield from judged(rng, repetitions, truth=truth, spread=spread)
    for truth in (1.2999, 1.3001):  # where a rule errs most: at an end of the band, in cases all alike
        yield from judged(rng, repetitions, truth=truth, spread=1e-9)


def judged(
    rng: np.random.Generator, repetitions: int, *, truth: float, spread: float, cases: int = 12
) -> Iterator[Rates]:
    """For each reading its verdicts, and what of them is wrong.

    WRONG: of the mean of these very cases; of the mean of all cases like these; `supported` though fewer than
    half of all cases are in the band. RESAMPLED: if the mean were judged by its interval with cases
    resampled, how often there would be a verdict, and how often one that is wrong of all cases.
    """
    readings = ("throughput", "time_reduction")
    # Never insufficient or undecidable: the cases and blocks are enough.
    words = [verdict for verdict in claims.VERDICTS if verdict not in ("insufficient", claims.UNDECIDABLE)]
    found = {reading: dict.fromkeys((*words, *WRONG, *RESAMPLED), 0) for reading in readings}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "claims.toml"
        path.write_text(CLAIM, encoding="utf-8")
        for _ in range(repetitions):
            true = levels(rng, (cases,), mean=truth, spread=spread)
            for row in claims.evaluate([population_run(rng, true, process=0.01)], path):
                inside = np.diff(stats.norm.cdf(np.log(row.band), math.log(truth), spread)).item()
                resampled = rule.of_mean(row.ci95_cases, row.band)
                happened = (
                    is_wrong(row.verdict, math.exp(true.mean()), row.band),
                    is_wrong(row.verdict, truth, row.band),
                    row.verdict == "supported" and inside < 0.5,
                    resampled != "inconclusive",
                    is_wrong(resampled, truth, row.band),
                )
                counts = found[row.reading]
                counts[row.verdict] += 1
                for name, so in zip((*WRONG, *RESAMPLED), happened, strict=True):
                    counts[name] += so
    for reading, counts in found.items():
        setting = {"true mean": f"{truth:g}", "spread": f"{spread:.0%}", "reading": reading}
        yield Rates(setting=setting, counts=counts, of=repetitions)


# Families × cases of each: nine blocks of models in one pass and dtype, in two, in four; 12 and 24 models.
SIZES = ((9, 1), (9, 2), (9, 4), (12, 1), (12, 2), (24, 1), (24, 2))


def typical(rng: np.random.Generator, repetitions: int) -> Iterator[Rates]:
    """How often "typical" is shown, by the true share of cases inside the band: the lower Wilson bound is at
    least one half"""
    half_width = math.log(BAND[1] / BAND[0]) / 2
    for families, each in SIZES:
        cases = families * each
        names = [str(n) for n in range(families) for _ in range(each)]
        enough = np.array([population.share(count, cases).low >= 0.5 for count in range(cases + 1)])
        for alike in (0.0, 0.8) if each > 1 else (0.0,):
            shown: dict[str, dict[str, int]] = {"independent cases": {}, "families": {}}
            for share in (0.5, 0.6, 0.7, 0.8, 0.9):
                spread = half_width / stats.norm.ppf((1 + share) / 2)
                true = levels(rng, (repetitions, families, each), mean=1, spread=spread, alike=alike)
                inside = (np.abs(true) <= half_width).reshape(repetitions, cases)
                what = f"{share:.0%} inside"
                shown["independent cases"][what] = int(enough[inside.sum(axis=1)].sum())
                by_families = (population.share_by_families(hits, names) for hits in inside)
                shown["families"][what] = sum(found.low >= 0.5 for found in by_families)
            setting = {"families": str(families), "cases of each": str(each), "alike": f"{alike:.0%}"}
            if each == 1:  # the two bounds are the same
                del shown["families"]
            for bound, counts in shown.items():
                yield Rates(setting={**setting, "bound of": bound}, counts=counts, of=repetitions)


# Of both sides: the share of rounds that another program disturbs, and by up to what factor.
DISTURBED = {"quiet": (0.0, 1.0), "2 % of rounds up to 10×": (0.02, 10.0), "0.5 % up to 100×": (0.005, 100.0)}


def doubts(rng: np.random.Generator, repetitions: int) -> Iterator[Rates]:
    """How often a speedup is doubted whose candidate is slower in one round of eight, and how often median or
    mean lie outside its interval, which alone is no doubt"""
    for machine, (share, worst) in DISTURBED.items():
        for factor in (1.0, 1.5, 4.0):
            counts = {"doubted": 0, "outside": 0}
            for _ in range(repetitions):
                baseline, candidate = measured(rng, speedup=1.45, process=0.01)
                candidate.seconds[7::8] *= factor
                for side in (baseline, candidate):
                    hit = rng.random(len(side.seconds)) < share
                    side.seconds[hit] *= rng.uniform(1, worst, hit.sum())
                found = rounds.speedups(baseline, candidate)
                low, high = found.fast.ci95
                counts["doubted"] += bool(found.doubted)
                counts["outside"] += not all(low <= by.value <= high for by in (found.median, found.mean))
            setting = {"machine": machine, "slower in one of eight": f"{factor:g}×"}
            yield Rates(setting=setting, counts=counts, of=repetitions)


SIMULATIONS = {each.__name__: each for each in (coverage, means, verdicts, typical, doubts, counts)}


def table(rates: Sequence[Rates]) -> str:
    """Markdown, shares in percent."""
    names = list(rates[0].counts)
    lines = [[*rates[0].setting, *names], ["---"] * (len(rates[0].setting) + len(names))]
    lines += [[*each.setting.values(), *(f"{each.share(name):.1%}" for name in names)] for each in rates]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python tools/simulations.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SIMULATIONS)}; default: all")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help=f"default: {REPETITIONS:,}")
    parser.add_argument("--seed", type=int, default=SEED, help=f"default: {SEED}")
    options = parser.parse_args(arguments)
    try:
        require_known("simulation", options.names, SIMULATIONS)
        if options.repetitions < 1 or options.seed < 0:
            raise UserError("--repetitions must be at least 1 and --seed at least 0")
    except UserError as error:
        print(f"simulations: {error}", file=sys.stderr)
        return 2
    for name in options.names or SIMULATIONS:
        started = time.perf_counter()
        simulation = SIMULATIONS[name]
        # A generator for each, so that one alone gives the figures that it gives among all.
        rng = np.random.default_rng([options.seed, list(SIMULATIONS).index(name)])
        rates = list(simulation(rng, options.repetitions))
        title = " ".join((simulation.__doc__ or "").split())
        took = f"{time.perf_counter() - started:.0f} s"
        print(f"## {name}\n\n{title} ({options.repetitions:,} repetitions, seed {options.seed}, {took}).\n")
        print(table(rates), end="\n\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
