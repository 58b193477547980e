"""Is a call timed by a worker as fast as the call that a user writes?

    python tools/neutrality.py [--framework NAME …] [--json FILE]
    python tools/neutrality.py --show [BEFORE.json …] FILE.json

For each framework, compile mode and pass, at about 20 µs, 100 µs and 1 ms a call: a worker's batch, the loop
that a user writes, and that loop again as a control, take turns in one process, in drawn order. The table has
the median of paired ratios with its 95 % interval. Neutral is a difference of less than 0.5 % or 0.2 µs. Run
it on a quiet machine. `--show` prints results as Markdown and measures nothing.

The exit code is 0 if no worker's call is slower or faster than the user's, 1 if any is, 2 for bad input.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.util
import itertools
import json
import math
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import user_loops
from rich.console import Console
from rich.table import Table

from fuseproof import frameworks
from fuseproof.files import write_json
from fuseproof.frameworks.calling import Signature
from fuseproof.implementations import FRAMEWORKS, IMPLEMENTATIONS, Implementation, resolve_function
from fuseproof.measure.crew import worker_environment
from fuseproof.measure.neutrality import Loop, alternate, difference
from fuseproof.runs import environment

MODES = {
    "torch": (
        ("layer_norm", "torch.eager"),
        ("layer_norm", "torch.compile"),
        ("matmul", "torch.compile-max-autotune-no-cudagraphs"),  # tunes products and nothing else
    ),
    "jax": (("layer_norm", "jax.eager"), ("layer_norm", "jax.jit"), ("layer_norm", "jax.jit-donate")),
    "tensorflow": (("layer_norm", "tf.eager"), ("layer_norm", "tf.function"), ("layer_norm", "tf.xla")),
}
PASSES = ("forward", "forward_backward")
TARGETS = {"20 µs": 20e-6, "100 µs": 100e-6, "1 ms": 1e-3}
LEG_SECONDS = 2.5e-3
ALTERNATIONS = 400

# Inputs by name, of so many rows.
SHAPES: Mapping[str, Callable[[int], dict[str, tuple[int, ...]]]] = {
    "layer_norm": lambda rows: {"x": (rows, 768), "weight": (768,), "bias": (768,)},
    "matmul": lambda rows: {"a": (rows, 256), "b": (256, 256), "bias": (256,)},
}
MOST_ROWS = 8192
# The search for rows ends when a call takes the target's time within so much of its logarithm, or gives up.
CLOSE = 0.2
REFINEMENTS = 4


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison, as it is stored. `worker`, `control`: `Difference.to_json`, from the user's loop."""

    framework: str
    operator: str
    implementation: str
    pass_: str
    target: str
    rows: int
    calls: int
    worker: dict[str, Any]
    control: dict[str, Any]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.implementation, self.pass_, self.target


def worker_loop(
    framework: Any,
    implementation: Implementation,
    pass_: str,
    inputs: Mapping[str, Any],
    cotangent: Any,
) -> Loop:
    """What a worker times: calls bound before the clock starts, in the framework's batch."""
    step = framework.step(
        resolve_function(implementation.target),
        Signature(arguments={name: name for name in inputs}, differentiable=tuple(inputs)),
        pass_,
        implementation.compiled,
        consumes=implementation.consumes,
    )
    cotangents = {} if cotangent is None else {"output": cotangent}
    bound = step.bind(dict(inputs), cotangents)

    def loop(calls: int) -> float:
        if not implementation.consumes:
            return framework.batch(itertools.repeat(bound, calls)).host
        copies = user_loops.copies_of(framework, inputs, implementation.consumes, calls)
        return framework.batch([step.bind(each, cotangents) for each in copies]).host

    return loop


def rows_for(seconds_of: Callable[[int], float]) -> dict[str, int]:
    """Rows at which a call takes about each target, by lines through one row and the nearest that was timed.

    A target that even one row exceeds gets one row. Numbers of rows that repeat are left out.
    """
    known = {rows: seconds_of(rows) for rows in (1, MOST_ROWS)}
    found: dict[int, str] = {}
    for target, seconds in TARGETS.items():

        def distance(rows: int, seconds: float = seconds) -> float:
            return abs(math.log(known[rows] / seconds))

        for _ in range(REFINEMENTS):
            rows = min(known, key=distance)
            if distance(rows) < CLOSE or seconds <= known[1]:
                break
            through = min((each for each in known if each > 1), key=distance)
            slope = max((known[through] - known[1]) / (through - 1), 1e-12)
            guess = min(1 + round((seconds - known[1]) / slope), MOST_ROWS)
            if guess in known:
                break
            known[guess] = seconds_of(guess)
        found.setdefault(min(known, key=distance), target)
    return {target: rows for rows, target in found.items()}


def measure_framework(name: str, names: Sequence[str], threads: int, alternations: int) -> list[Row]:
    """Every row of one framework, in a process that has loaded no other."""
    with tempfile.TemporaryDirectory() as caches:
        os.environ |= worker_environment(device="cpu", threads=threads, caches=Path(caches), cold=True)
        os.sched_setaffinity(0, environment.usable_cpus()[:threads])
        framework: Any = frameworks.load(name)
        framework.configure(device="cpu", threads=threads)
        rows = []
        table = {(each.workload, each.name): each for each in IMPLEMENTATIONS}
        for mode, pass_ in itertools.product(MODES[name], PASSES):
            if not names or mode[1] in names:
                rows += measure_mode(framework, table[mode], pass_, alternations)
        return rows


def measure_mode(framework: Any, implementation: Implementation, pass_: str, alternations: int) -> list[Row]:
    """The rows of one compile mode and pass."""
    user_loop = user_loops.LOOPS[implementation.framework]

    def operands(rows: int) -> tuple[dict[str, Any], Any]:
        framework.reset()  # else PyTorch compiles the next shape as a dynamic one
        generator = np.random.default_rng(0)
        shapes = SHAPES[implementation.workload](rows)
        inputs = {key: tensor(generator.standard_normal(shape)) for key, shape in shapes.items()}
        if pass_ == "forward":
            return inputs, None
        columns = shapes[list(shapes)[-1]]  # the bias has as many as the output
        return framework.differentiable(inputs, list(inputs)), tensor(
            generator.standard_normal((rows, *columns))
        )

    def tensor(array: np.ndarray) -> Any:
        return framework.from_numpy(array.astype(np.float32), "float32")

    def seconds_of(rows: int) -> float:
        loop = user_loop(framework, implementation, pass_, *operands(rows))
        loop(3)
        return seconds_of_call(loop)

    measured = []
    for target, rows in rows_for(seconds_of).items():
        inputs, cotangent = operands(rows)
        user = user_loop(framework, implementation, pass_, inputs, cotangent)
        worker = worker_loop(framework, implementation, pass_, inputs, cotangent)
        for loop in (user, worker):
            loop(3)  # compiles
        calls = max(1, round(LEG_SECONDS / seconds_of_call(user)))
        loops = {"user": user, "worker": worker, "again": user}
        seconds = alternate(loops, calls=calls, alternations=alternations, seed=0)
        row = Row(
            framework=implementation.framework,
            operator=implementation.workload,
            implementation=implementation.name,
            pass_=pass_,
            target=target,
            rows=rows,
            calls=calls,
            worker=difference(seconds["worker"], seconds["user"]).to_json(),
            control=difference(seconds["again"], seconds["user"]).to_json(),
        )
        print(" ".join(cells(row)), file=sys.stderr, flush=True)
        measured.append(row)
    return measured


def seconds_of_call(loop: Loop) -> float:
    """Of a loop that has compiled: the least of several short legs."""
    calls = max(1, round(LEG_SECONDS / (min(loop(2) for _ in range(3)) / 2)))
    return min(loop(calls) for _ in range(5)) / calls


HEADER = (
    *("implementation", "pass", "input", "user's call", "worker's call more by", "of it, 95 % interval"),
    *("control", "verdict"),
)


def cells(row: Row) -> list[str]:
    """A row of the table in words."""
    shape = "x".join(map(str, next(iter(SHAPES[row.operator](row.rows).values()))))
    worker, control = row.worker, row.control
    return [
        row.implementation,
        row.pass_,
        f"{row.operator} {shape}",
        f"{1e6 * worker['seconds']:.1f} µs",
        f"{1e6 * worker['seconds'] * worker['value']:+.2f} µs",
        f"{_percent(worker['value'])} [{_percent(worker['low'])}, {_percent(worker['high'])}]",
        _percent(control["value"]),
        worker["verdict"],
    ]


def _percent(value: float) -> str:
    return f"{100 * value:+.2f} %"


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """One or more results, the last the one that counts; earlier ones give a column each, `before`."""
    *earlier, last = results
    before = [{row.key: row for row in rows_of(each)} for each in earlier]
    lines = [[*HEADER[:4], *["before"] * len(before), *HEADER[4:]]]
    lines.append(["---"] * len(lines[0]))
    for row in rows_of(last):
        found = [each.get(row.key) for each in before]
        old = ["" if each is None else _percent(each.worker["value"]) for each in found]
        own = cells(row)
        lines.append([*own[:4], *old, *own[4:]])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rows_of(result: Mapping[str, Any]) -> list[Row]:
    return [Row(**fields) for fields in result["rows"]]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 if a row is not neutral, 2 for bad input."""
    known = [name for modes in MODES.values() for _, name in modes]
    parser = argparse.ArgumentParser(
        prog="python tools/neutrality.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--framework", nargs="+", choices=FRAMEWORKS, help="only these; default: installed")
    parser.add_argument("--only", nargs="+", choices=known, default=[], help="only these implementations")
    parser.add_argument("--alternations", type=int, default=ALTERNATIONS, help="default: %(default)s")
    parser.add_argument("--threads", type=int, help="default: one for each usable core")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here too")
    parser.add_argument("--show", type=Path, nargs="+", metavar="FILE", help="print stored results")
    options = parser.parse_args(arguments)
    if options.show:
        try:
            print(markdown([json.loads(file.read_text(encoding="utf-8")) for file in options.show]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            return refuse(f"--show: not results of this program ({error})")
        return 0
    cores = len(environment.usable_cpus())
    threads = options.threads or cores
    if not 1 <= threads <= cores:
        return refuse(f"--threads must be 1 to {cores}, the usable cores, not {threads}")
    if options.alternations < 20:
        return refuse(f"--alternations must be 20 or more, not {options.alternations}")
    chosen = options.framework or [each for each in FRAMEWORKS if importlib.util.find_spec(each)]
    if missing := [each for each in chosen if importlib.util.find_spec(each) is None]:
        return refuse(f"{missing[0]} is not installed; pip install 'fuseproof[{missing[0]}]'")
    result = {
        "datetime": environment.now(),
        "commit_info": environment.commit_info(),
        "environment": environment.describe(device="cpu", threads=threads),
        "alternations": options.alternations,
        "rows": [],
    }
    for framework in chosen:
        # A process of its own: two frameworks in one disturb each other, and some pairs crash.
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            task = pool.submit(measure_framework, framework, options.only, threads, options.alternations)
            result["rows"] += [asdict(row) for row in task.result()]
        if options.json:
            write_json(options.json, result)
    return report(result)


def report(result: Mapping[str, Any]) -> int:
    """Print the table and a summary: the exit code."""
    rows = rows_of(result)
    table = Table(*HEADER)
    for row in rows:
        table.add_row(*cells(row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    verdicts = [row.worker["verdict"] for row in rows]
    counts = ", ".join(f"{verdicts.count(each)} {each}" for each in dict.fromkeys(verdicts))
    most = max((abs(row.control["value"]) for row in rows), default=math.nan)
    print(f"{len(rows)} rows: {counts}. Largest difference of the control: {100 * most:.2f} %")
    return int(any(verdict in ("slower", "faster") for verdict in verdicts))


def refuse(message: str) -> int:
    print(f"neutrality: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
