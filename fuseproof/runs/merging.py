"""Several run files as one run, each file a block; such as the stock files of a folder or a glob.

Two things that such files do not say are found out here: pytest-benchmark has no entry for a test that
failed, so a benchmark may be in some files only; and a copy of a file is no second measurement.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fuseproof.errors import UserError
from fuseproof.runs import run_file
from fuseproof.runs.records import Benchmark, Run


def load_all(pattern: str) -> Run:
    """Read a run directory, a file, or a folder or a glob of files; several files become one run.

    Raises UserError when nothing matches, and for files that `merge_as_blocks` refuses.
    """
    given = Path(pattern)
    if given.is_dir() and not run_file.file_of(given).is_file():
        paths = sorted(str(path) for path in given.glob("*.json"))
        if not paths:
            raise UserError(
                f"no such run: {pattern}; the folder holds no run.json (was the run stopped before its first "
                "block?) and no files of pytest-benchmark"
            )
    elif given.exists() or not glob.has_magic(pattern):
        return run_file.load(pattern)
    else:
        paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not paths:
            raise UserError(f"no file matches {pattern!r}")
    return merge_as_blocks([run_file.load(path) for path in paths], source=pattern)


def merge_as_blocks(runs: Sequence[Run], *, source: str, stride: int | None = None) -> Run:
    """One run out of several of the same machine: the blocks of each are numbered after those before it.

    stride: how many numbers each run takes; by default those of its own blocks. Runs that were measured in
    turn need one for all: else the blocks of one round have other numbers on another side.

    Of files with the same samples only the first counts, which a note says. `absent` of the result says of
    each benchmark that some files do not hold in how many it is.

    Raises UserError if the runs' fingerprints differ.
    """
    if len(runs) == 1:
        return runs[0]
    for run in runs[1:]:
        if (run.fingerprint, run.fingerprint_fields) != (runs[0].fingerprint, runs[0].fingerprint_fields):
            raise UserError(
                f"{source}: {runs[0].source} and {run.source} were measured differently "
                "(their fingerprints differ); merge only files of one machine and environment"
            )
    parts: dict[str, list[Benchmark]] = {}
    seen: dict[tuple[str, bytes], str] = {}
    notes: list[str] = []
    offset = 0
    for run in runs:
        copied: dict[str, int] = {}  # by the file that it is a copy of, how many benchmarks
        for benchmark in run.benchmarks:
            key = (benchmark.name, benchmark.seconds.tobytes())
            if key in seen:
                copied[seen[key]] = copied.get(seen[key], 0) + 1
            else:
                seen[key] = run.label
                parts.setdefault(benchmark.name, []).append(
                    replace(benchmark, block=benchmark.block + offset)
                )
        notes += [_of_copies(run, first, count) for first, count in copied.items()]
        offset += stride or width(run)
    return replace(
        runs[0],
        source=source,
        benchmarks=tuple(_joined(same) for same in parts.values()),
        failures=tuple(dict.fromkeys(failure for run in runs for failure in run.failures)),
        notes=tuple(dict.fromkeys((*notes, *(note for run in runs for note in run.notes)))),
        complete=all(run.complete for run in runs),
        absent=_absent(runs),
    )


def width(run: Run) -> int:
    """How many numbers its blocks take; a run that holds nothing is a block too."""
    return max((int(b.block.max()) + 1 for b in run.benchmarks), default=1)


def _of_copies(run: Run, first: str, count: int) -> str:
    which = "all its" if count == len(run.benchmarks) else f"{count} of its {len(run.benchmarks)}"
    return (
        f"{run.label} has the same samples as {first} in {which} benchmarks: a copy is no second measurement"
    )


def _absent(runs: Sequence[Run]) -> Mapping[str, tuple[int, int]]:
    """(3, 5) for 3 of 5 files, of each benchmark that some files hold and others do not."""
    held = [{benchmark.name for benchmark in run.benchmarks} for run in runs]
    found = {name: sum(name in names for names in held) for name in dict.fromkeys(n for h in held for n in h)}
    return {name: (count, len(runs)) for name, count in found.items() if count < len(runs)}


def _joined(same: Sequence[Benchmark]) -> Benchmark:
    return replace(
        same[0],
        seconds=np.concatenate([each.seconds for each in same]),
        block=np.concatenate([each.block for each in same]),
        leg=np.concatenate([each.leg for each in same]),
    )
