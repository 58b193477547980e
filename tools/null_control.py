"""Measure code against itself, in one process and across processes: how many intervals contain 1?

    python tools/null_control.py RUN [--suite NAME] [-- FLAGS OF fuseproof run]
    python tools/null_control.py --show RUN …

RUN is a new folder. Beside the built-in implementations and their twins (`fuseproof run --null`) it measures
copies of `torch.eager`, `jax.jit` and `tf.function` from a user's files, which have processes of their own:
each is a twin of the built-in one, and has a twin in turn. The demo suite has 150 twins. The true speedup of
every twin is 1, so 95 % of the 95 % intervals should contain it. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from fuseproof import suites
from fuseproof.errors import UserError
from fuseproof.implementations import IMPLEMENTATIONS, Implementation
from fuseproof.runs import run_file, statistics
from fuseproof.runs.records import NULL_SUFFIX, Run

COPIED = ("torch.eager", "jax.jit", "tf.function")
OUTSIDE = "outside."  # begins the names of copies


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Twins of one kind. half_width, deviation: medians, relative to 1."""

    kind: str
    twins: int
    contained: int
    half_width: float
    deviation: float

    @property
    def wilson(self) -> tuple[float, float]:
        """95 % interval of the share of intervals that contain 1."""
        found = stats.binomtest(self.contained, self.twins).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)


def write_copies(folder: Path, operators: Iterable[str]) -> list[Implementation]:
    """Copy the modules of COPIED into `folder` as a user's, with `twins.py:TWINS`, which lists the twins."""
    wanted = {*operators}
    twins = []
    for each in IMPLEMENTATIONS:
        if each.name not in COPIED or each.workload not in wanted:
            continue
        module, _, attribute = each.target.partition(":")
        found = importlib.util.find_spec(module)
        assert found is not None and found.origin is not None
        copy = folder / f"{each.framework}_copy.py"
        if not copy.exists():
            shutil.copyfile(found.origin, copy)
        name = f"{OUTSIDE}{each.name}{NULL_SUFFIX}"
        twins.append(replace(each, name=name, baseline=each.name, target=f"{copy}:{attribute}"))
    listed = "".join(f"    Implementation(**{twin.to_json()!r}),\n" for twin in twins)
    (folder / "twins.py").write_text(
        f"from fuseproof.implementations import Implementation\n\nTWINS = [\n{listed}]\n", encoding="utf-8"
    )
    return twins


def coverage(run: Run) -> list[Coverage]:
    """How twins agree with their originals: the built-in ones, copies from outside, and all."""
    kinds: dict[str, list[tuple[float, float, float]]] = {"built-in": [], "from outside": []}
    for twin in run.benchmarks:
        name = twin.implementation or ""
        original = run.baseline_of(twin) if name.endswith(NULL_SUFFIX) else None
        if original is None:
            continue
        speedup = statistics.speedup(original, twin)
        if speedup.blocks > 1:
            kind = "from outside" if name.startswith(OUTSIDE) else "built-in"
            kinds[kind].append((speedup.value, *speedup.ci95))
    kinds["all"] = [twin for twins in kinds.values() for twin in twins]
    return [_coverage(kind, np.array(twins)) for kind, twins in kinds.items() if twins]


def _coverage(kind: str, twins: np.ndarray) -> Coverage:
    value, low, high = twins.T
    return Coverage(
        kind=kind,
        twins=len(twins),
        contained=int(((low <= 1) & (high >= 1)).sum()),
        half_width=float(np.median(np.sqrt(high / low) - 1)),
        deviation=float(np.median(np.expm1(np.abs(np.log(value))))),
    )


def seconds_of_measuring(folder: Path) -> float | None:
    """From the last check to the last piece of a block, start of processes included; None if unknown."""
    ends = [
        max((file.stat().st_mtime for file in (folder / name).glob("*.json")), default=None)
        for name in ("checks", "blocks")
    ]
    return None if ends[0] is None or ends[1] is None else ends[1] - ends[0]


def show(folder: Path) -> None:
    """Print the table of one run and what failed in it."""
    run = run_file.load(folder)
    seconds = seconds_of_measuring(folder)
    took = "" if seconds is None else f", measured in {seconds:.0f} s"
    table = Table(
        *("twins", "number", "contain 1", "95 % (Wilson)", "median half-width", "median deviation"),
        title=f"{folder}{took}",
    )
    for each in coverage(run):
        low, high = each.wilson
        table.add_row(
            each.kind,
            str(each.twins),
            f"{each.contained} ({each.contained / each.twins:.0%})",
            f"{low:.0%} to {high:.0%}",
            f"{each.half_width:.1%}",
            f"{each.deviation:.1%}",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for failure in run.failures:
        if failure.kind == "error":
            print(f"failed: {failure.group} {failure.implementation}: {failure.message}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: that of `fuseproof run`, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python tools/null_control.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--suite", default="demo", help="default: demo")
    parser.add_argument("--show", action="store_true", help="print the figures of runs, measure nothing")
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    options, flags = parser.parse_args(given[:end]), given[end + 1 :]
    try:
        if not options.show:
            if len(options.runs) != 1:
                raise UserError("one run is measured at a time; --show takes more")
            operators = {case.workload.name for case in suites.get(options.suite).cases}
            with tempfile.TemporaryDirectory() as folder:
                write_copies(Path(folder), operators)
                command = [
                    *(sys.executable, "-m", "fuseproof", "run", options.suite, "--null"),
                    *("--implementations", f"{Path(folder) / 'twins.py'}:TWINS"),
                    *("-o", str(options.runs[0])),
                    *flags,
                ]
                if code := subprocess.run(command).returncode:
                    return code
        for folder in options.runs:
            show(folder)
    except UserError as error:
        print(f"null_control: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
