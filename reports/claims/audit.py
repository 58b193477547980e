"""Is the comparison fair? A checklist, answered by what the run file holds and by nothing else.

A table of somebody else becomes such a file as pytest-benchmark JSON; what its author says of the sides is
then in `fuseproof.settings`: `synchronised`, `precision`, `batch`, `loss` and `threads`, each one value, or
one for each implementation. A setting that says yes does not stand against a figure that says no.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from fuseproof import escaping, units
from fuseproof.cases import parse_group
from fuseproof.runs.records import FIRST_RESULT, Benchmark, Run, is_twin

ANSWERS = ("yes", "no", "not known")
# An unsynchronised call leaves its work to whoever waits next: its legs are longer by the runner's clock than
# all that it reports. An honest leg is longer by some milliseconds, or by a tenth of its few calls.
_LATE_SECONDS = 0.02
# A first sample with compilation in it is longer by orders; a cold cache makes it longer by a few times.
_COLD_FIRST = 10.0
# Between the roundoffs of TF32 or float16 (2^-11) and of float32 (2^-24); sums of float32 stay far below.
_NOT_FLOAT32 = 2.0**-14
_EAGER = "eager"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question, phrased so that `yes` is fair; `basis` is what the answer rests on."""

    key: str
    question: str
    answer: str
    basis: str

    def to_json(self) -> dict[str, str]:
        """An entry of `checks` in `fuseproof claims --audit --json`."""
        return dict(vars(self))


_Answer = tuple[str, str]


def audit(run: Run) -> tuple[Check, ...]:
    """All questions, in the order in which they make most of unfair comparisons."""
    questions: Sequence[tuple[str, str, Callable[[Run], _Answer]]] = (
        ("synchronised", "is each side waited for before the clock stops?", _synchronised),
        ("precision", "do all sides compute in the same precision?", _precision),
        ("inputs", "do all sides get the same batch and inputs?", _inputs),
        ("work", "do all sides do the same pass, with the same loss?", _work),
        ("threads", "do all sides have the same threads?", _threads),
        ("mode", "is graph mode compared with graph mode, and eager with eager?", _mode),
        ("warm", "was everything compiled before the clock started?", _warm),
        ("outputs", "were the outputs of all sides compared?", _outputs),
    )
    checks = []
    for key, question, answer in questions:
        found, basis = answer(run)
        checks.append(Check(key=key, question=question, answer=found, basis=escaping.line(basis)))
    return tuple(checks)


def render(audited: Mapping[str, Sequence[Check]]) -> str:
    """For a terminal of 80 columns: by run, each answer, its question and its basis."""
    lines = []
    indent = " " * 13
    for run, checks in audited.items():
        lines.append(f"Baseline audit of {run}")
        for check in checks:
            lines.append(f"  {check.answer:9}  {check.question}")
            wrap = textwrap.TextWrapper(79, initial_indent=indent, subsequent_indent=indent)
            lines.append(wrap.fill(check.basis))
        lines += [f"  {tally(checks)}", ""]
    return escaping.terminal("\n".join(lines))


def tally(checks: Sequence[Check]) -> str:
    """`6 yes, 1 no, 1 not known`."""
    return ", ".join(f"{sum(c.answer == answer for c in checks)} {answer}" for answer in ANSWERS)


def _synchronised(run: Run) -> _Answer:
    said = _said(run, "synchronised")
    if unwaited := [name for name, value in said.items() if value is False]:
        return "no", f"{', '.join(unwaited)}: not synchronised, by the settings of the run"
    late = [
        (float(seen.get("unexplained", seen["gap"])), name, float(seen.get("batch", 0.0)))
        for name, seen in _evidence(run)
        if "gap" in seen
    ]
    if late:
        most, name, call = max(late, key=lambda one: one[0] - one[2])
        clock = f"by the runner's clock a leg of {name} took {units.duration(most)} longer than it said"
        if most > max(_LATE_SECONDS, call):
            return "no", clock
        unseen = {*_names(run)} - {one[1] for one in late}
        if unseen:
            return "not known", f"{clock}; there is no such clock for {', '.join(sorted(unseen))}"
        return "yes", f"{clock}, at most"
    if said and all(value is True for value in said.values()) and {*_names(run)} <= {*said}:
        return "yes", "by the settings of the run"
    return "not known", "the run holds no second clock and no setting"


def _precision(run: Run) -> _Answer:
    said = _said(run, "precision")
    for group, members in _by_case(run):
        kinds = {str(said.get(b.implementation or "", b.dtype)) for b in members} - {"None"}
        if len(kinds) > 1:
            sides = ", ".join(
                f"{b.implementation} {said.get(b.implementation or '', b.dtype)}" for b in members
            )
            return "no", f"{group}: {sides}"
    coarse = [
        b for b in _compared(run) if b.dtype == "float32" and (b.error_relative_rms or 0.0) > _NOT_FLOAT32
    ]
    known = any(b.error_relative_rms is not None for b in _compared(run))
    mixed = [
        b
        for b in coarse
        if any(
            o.group == b.group and (o.error_relative_rms or 1.0) < _NOT_FLOAT32 / 8 for o in _compared(run)
        )
    ]
    if mixed:
        b = mixed[0]
        return (
            "no",
            f"{b.group}: {b.implementation} has an error of {b.error_relative_rms:.1e}, not that of float32",
        )
    flags = _flags(run)
    if "tf32" in flags.values() and {"float32"} & {b.dtype for b in _compared(run)}:
        loose = [name for name, flag in flags.items() if flag == "tf32"]
        if len(loose) < len(flags):
            return "no", f"TF32 is on in {', '.join(loose)} and off in the others"
        return "yes", "TF32 is on in every framework, although the cases say float32"
    if flags and known:
        stated = ", ".join(f"{flag} in {name}" for name, flag in flags.items())
        return "yes", f"TF32 {stated}; no error is larger than float32 explains"
    if said and {*_names(run)} <= {*said}:
        return (
            "yes",
            f"{', '.join(sorted({str(value) for value in said.values()}))} by the settings of the run",
        )
    return "not known", "the run holds neither precision flags nor errors"


def _inputs(run: Run) -> _Answer:
    sizes = _said(run, "batch")
    if len({*map(str, sizes.values())}) > 1:
        return "no", "batch " + ", ".join(f"{value} of {name}" for name, value in sizes.items())
    cases = {b.group for b in _compared(run)}
    if _is_own(run) and "seed" in run.settings:
        seed = run.settings["seed"]
        return (
            "yes",
            f"{units.count(len(cases), 'case')}: compared within a case only, values drawn from seed {seed}",
        )
    if sizes and {*_names(run)} <= {*sizes}:
        return "yes", f"batch {next(iter(sizes.values()))} by the settings of the run"
    return "not known", "the run does not say what the inputs were"


def _work(run: Run) -> _Answer:
    losses = _said(run, "loss")
    if len({*map(str, losses.values())}) > 1:
        return "no", "loss " + ", ".join(f"{value} of {name}" for name, value in losses.items())
    passes = sorted({b.pass_ for b in _compared(run) if b.pass_})
    if _is_own(run) and passes and all(parse_group(b.group) for b in _compared(run)):
        return (
            "yes",
            f"{', '.join(passes)}: a case has one, and one reference that every side is checked against",
        )
    if losses and {*_names(run)} <= {*losses}:
        return "yes", f"loss {next(iter(losses.values()))} by the settings of the run"
    return "not known", "the names of the cases hold no pass"


def _threads(run: Run) -> _Answer:
    reported = {name: each["threads"] for name, each in _frameworks(run).items() if each.get("threads")}
    counts = reported or (_said(run, "threads") if isinstance(run.settings.get("threads"), Mapping) else {})
    if len({*map(str, counts.values())}) > 1:
        return "no", ", ".join(f"{name} {value}" for name, value in counts.items())
    if counts and (reported or {*_names(run)} <= {*counts}):
        said = ", ".join(f"{name} {value}" for name, value in counts.items())
        return "yes", f"threads, as each reports them: {said}"
    return "not known", "the run does not record the threads of each side"


def _mode(run: Run) -> _Answer:
    mixed: dict[str, None] = {}
    pairs = 0
    names = {b.implementation for b in _compared(run)}
    for benchmark in _compared(run):
        baseline = run.baseline_of(benchmark)
        if baseline is None or baseline is benchmark:
            continue
        pairs += 1
        one, other = str(baseline.implementation), str(benchmark.implementation)
        if (_EAGER in one) != (_EAGER in other):
            # A compiler against its own framework without it is the question, unless a graph was left out.
            graph = one.replace(_EAGER, "function")
            beside = f" (beside {graph})" if graph in names else ""
            mixed[f"{other} over {one}{beside}"] = None
    if mixed:
        return "no", f"{', '.join(mixed)}: what the graph gains and what the compiler gains are in one figure"
    if pairs:
        return "yes", f"{units.count(pairs, 'comparison')}, each of one mode"
    return "not known", "nothing here names the implementation that it is compared with"


def _warm(run: Run) -> _Answer:
    cold = [(float(b.seconds[0] / np.median(b.seconds)), b) for b in _compared(run) if len(b.seconds) > 2]
    if cold:
        factor, b = max(cold, key=lambda one: one[0])
        figure = f"a first sample is at most {factor:.1f} times its median ({b.name})"
        if factor > _COLD_FIRST:
            return "no", figure
        again = int(sum(seen.get("compiled", 0) for _, seen in _evidence(run)))
        if _is_own(run):
            return "yes", f"{figure}; {units.count(again, 'leg')} taken again because something was compiled"
        return "yes", figure
    return "not known", "too few samples to see a slow first one"


def _outputs(run: Run) -> _Answer:
    checked = [b for b in _compared(run) if b.error_relative_rms is not None and b.error_limit]
    unchecked = {str(b.implementation or b.name) for b in _compared(run)} - {
        str(b.implementation or b.name) for b in checked
    }
    if checked and not unchecked:
        worst = max(checked, key=lambda b: (b.error_relative_rms or 0.0) / (b.error_limit or 1.0))
        share = (worst.error_relative_rms or 0.0) / (worst.error_limit or 1.0)
        return "yes" if share <= 1 else "no", f"the largest error is {share:.2g} of its limit ({worst.name})"
    if checked:
        return "no", f"not checked: {', '.join(sorted(unchecked))}"
    return "not known", "the run holds no errors"


def _evidence(run: Run) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Of each implementation in each case and block, the numbers among what was seen of it."""
    for by_name in run.evidence.values():
        for name, blocks in by_name.items() if isinstance(by_name, Mapping) else ():
            for seen in blocks.values() if isinstance(blocks, Mapping) else ():
                if isinstance(seen, Mapping):
                    yield (
                        name,
                        {
                            key: value
                            for key, value in seen.items()
                            if isinstance(value, int | float) and math.isfinite(value)
                        },
                    )


def _frameworks(run: Run) -> dict[str, Mapping[str, Any]]:
    """What each framework reported of itself."""
    found = run.environment.get("frameworks")
    if not isinstance(found, Mapping):
        return {}
    return {name: each for name, each in found.items() if isinstance(each, Mapping)}


def _flags(run: Run) -> dict[str, str]:
    """Whether TF32 is on, by framework, as each reported; without those that said nothing."""
    found = {}
    for name, each in _frameworks(run).items():
        flag = each.get("tensor_float_32", each.get("float32_matmul_precision"))
        if flag is not None:
            found[name] = "off" if flag in (False, "highest", "float32") else "tf32"
    return found


def _said(run: Run, key: str) -> Mapping[str, Any]:
    """A setting by implementation; one value stands for all of them."""
    value = run.settings.get(key)
    if isinstance(value, Mapping):
        return value
    return {} if value is None else dict.fromkeys(_names(run), value)


def _compared(run: Run) -> list[Benchmark]:
    return [b for b in run.benchmarks if not is_twin(b.implementation) and b.metric != FIRST_RESULT]


def _names(run: Run) -> list[str]:
    return list(dict.fromkeys(str(b.implementation or b.name) for b in _compared(run)))


def _by_case(run: Run) -> Iterator[tuple[str, list[Benchmark]]]:
    for group, members in groupby(sorted(_compared(run), key=lambda b: b.group), key=lambda b: b.group):
        yield group, list(members)


def _is_own(run: Run) -> bool:
    """Whether Fuseproof measured it: only then do a seed and a case's name say what was done."""
    return run.fingerprint is not None and "leg_seconds" in run.settings
