"""`fuseproof profile`: every implementation of a case under its profiler, in one page.

A TPU target compiles instead and draws the compiler's plan; a directory of captures is only drawn.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fuseproof import implementations, suites
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation
from fuseproof.measure import planning
from fuseproof.measure.planning import Selection
from fuseproof.profiling import capture
from fuseproof.profiling.capture import captured
from fuseproof.profiling.capture import record as capture_record
from fuseproof.profiling.capture.captured import Profiled
from fuseproof.profiling.capture.record import CaptureRecord
from fuseproof.profiling.pages import profile_page
from fuseproof.profiling.pages.profile_page import Failure
from fuseproof.runs import environment
from fuseproof.runs.plan import Settings

DEFAULT_ROOT: Final = Path(".fuseproof/profiles")
# Of the table, what the suite `demo` takes, unless the user says what.
_SUITE: Final = "demo"
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to profile. device: `cpu`, `cuda` or `tpu`; target: a TPU that need not be here, or none.

    None: not asked for. `only` also chooses among captures that are there; nothing else applies to them.
    """

    case: str
    only: Sequence[str] = ()
    extra: Sequence[str] = ()
    device: str | None = None  # the CPU
    target: str | None = None
    calls: int | None = None  # as many as a capture takes
    threads: int | None = None
    stacks: bool = False
    output: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What to print, where the page is, and whether the user stopped it before the end."""

    text: str
    page: Path
    stopped: bool


def run(request: Request, *, as_json: bool = False, progress: Progress = lambda text: None) -> Outcome:
    """Profile, write the page. Raises UserError if nothing could be profiled, with every reason.

    An implementation that fails is listed with the reason and takes nothing from the others. Interrupted, it
    draws what is captured.
    """
    if request.output is not None and not os.access(request.output.absolute().parent, os.W_OK):
        raise UserError(f"cannot write {request.output}: choose a folder that is there and writable")
    if request.output is not None and request.output.is_dir():
        raise UserError(f"{request.output} is a folder: name the page itself, such as FILE.html")
    folder = Path(request.case)
    if folder.is_dir():
        _refuse_what_captures_fix(request, folder)
    if request.target is not None:
        return _plan(request, as_json, progress)
    if folder.is_dir():
        group, profiles, failures, stopped = *_captured(folder, request.only), False
    else:
        group, profiles, failures, stopped = _capture(request, progress)
    if not profiles:
        if stopped:
            raise KeyboardInterrupt
        raise UserError(f"nothing was profiled: {_reasons(failures)}")
    page = request.output or _default_page(group, profiles[0].record.device)
    text = _to_text(profile_page.document if as_json else profile_page.render_text, group, profiles, failures)
    _write(page, profile_page.to_html(group, profiles, failures))
    return Outcome(text=text, page=page, stopped=stopped)


def _capture(request: Request, progress: Progress) -> tuple[str, list[Profiled], list[Failure], bool]:
    case = Case.from_group(request.case)
    usable = len(environment.usable_cpus())
    threads = request.threads or usable
    if threads > usable:
        raise UserError(f"--threads {threads} is more than the {usable} usable cores")
    asked = request.device or "cpu"
    device = "cpu" if asked == "tpu" else asked
    chosen = planning.make(
        suites.get(_SUITE),
        implementations.table(request.extra),
        Selection(only=tuple(request.only), cases=(case.group,)),
        Settings(device=device, threads=threads),
    )
    skipped = {failure.implementation: failure.message for failure in chosen.skipped}
    rows = chosen.implementations if asked == "tpu" else chosen.implementations_of(case)
    failures = [] if asked == "tpu" else list(skipped.items())
    directory = DEFAULT_ROOT / f"{_plain(case.group)}-{asked}"
    calls = capture.Options.calls if request.calls is None else request.calls
    options = capture.Options(calls=calls, threads=threads, stacks=request.stacks)
    profiles: list[Profiled] = []
    for i, row in enumerate(rows):
        progress(f"{row.name} ({i + 1} of {len(rows)})")
        try:
            capture.capture(case, row, device=asked, directory=directory, options=options)
            profiles.append(captured.load(capture.folder_of(directory, row)))
        except UserError as error:
            failures.append(
                (row.name, str(error).removeprefix(f"cannot profile {row.name} of {case.group}: "))
            )
        except KeyboardInterrupt:
            failures += [(left.name, "stopped before its turn was over") for left in rows[i:]]
            return case.group, profiles, failures, True
    return case.group, profiles, failures, False


def _refuse_what_captures_fix(request: Request, folder: Path) -> None:
    given = {
        "--target": request.target,
        "--device": request.device,
        "--calls": request.calls,
        "--threads": request.threads,
        "--stacks": request.stacks or None,
        "--implementations": request.extra or None,
    }
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise UserError(
            f"{folder} holds captures, which are drawn as they are: leave out {', '.join(names)}, "
            "or name a case to capture it anew"
        )


def _captured(folder: Path, only: Sequence[str]) -> tuple[str, list[Profiled], list[Failure]]:
    """The captures in a folder, of one case and made alike; what cannot be read is listed."""
    found: list[tuple[Path, CaptureRecord]] = []
    failures: list[Failure] = []
    for place in capture_record.folders(folder):
        try:
            found.append((place, capture_record.load(place)))
        except UserError as error:
            failures.append((place.name, str(error)))
    names = {record.row.name for _, record in found}
    unknown = [name for name in only if name not in names and name not in dict(failures)]
    if unknown:
        raise UserError(f"{folder} holds no capture of {unknown[0]!r}; there are {', '.join(sorted(names))}")
    if only:
        found = [each for each in found if each[1].row.name in only]
        failures = [each for each in failures if each[0] in only]
    groups = {record.group for _, record in found}
    if not groups:
        return folder.name, [], failures
    if len(groups) > 1:
        raise UserError(f"{folder} holds captures of {len(groups)} cases; name the folder of one")
    unlike = capture_record.unlike([record for _, record in found])
    if unlike is not None:
        raise UserError(
            f"the captures in {folder} do not compare; {unlike}; choose with --only, or capture them alike"
        )
    table = {row.name: i for i, row in enumerate(implementations.table())}
    found.sort(key=lambda each: table.get(each[1].row.name, len(table)))
    profiles = []
    for place, record in found:
        try:
            profiles.append(captured.load(place))
        except UserError as error:
            failures.append((record.row.name, str(error)))
    return groups.pop(), profiles, failures


def _plan(request: Request, as_json: bool, progress: Progress) -> Outcome:
    from fuseproof.profiling.ahead_of_time.tpu import programs
    from fuseproof.profiling.pages import timeline_page
    from fuseproof.profiling.readers import xla_plan

    case = Case.from_group(request.case)
    table = implementations.table(request.extra)
    rows = [row for row in table if row.operator == case.operator.name]
    known = {row.name for row in rows}
    for name in request.only:
        if name not in known:
            raise UserError(f"unknown implementation {name!r}; there are {', '.join(sorted(known))}")
    chosen = [row for row in rows if _planned(row, request)]
    target = str(request.target)
    folder = DEFAULT_ROOT / f"{_plain(case.group)}-{target}"
    results = programs.compile_all([target], [case], chosen, output=folder, progress=progress)
    drawn = [result for result in results if result.get("schedule")]
    failures = [
        (str(result["implementation"]), str(result.get("reason") or result.get("warning")))
        for result in results
        if not result.get("schedule")
    ]
    if not drawn:
        raise UserError(f"nothing was compiled: {_reasons(failures)}")
    timelines = [xla_plan.to_timeline(result, str(result["implementation"])) for result in drawn]
    page = request.output or _default_page(case.group, target)
    notes = (f"Estimated by the compiler for {target}, not measured: no {target} was needed.",)
    text = timeline_page.to_html(
        timelines,
        title=f"{case.group} on {target}",
        notes=notes,
        page=timeline_page.Page(kind="static plan, an estimate", failures=failures, failed="Not compiled"),
    )
    _write(page, text)
    if as_json:
        from fuseproof.profiling.analysis import summary

        document: dict[str, Any] = {
            "case": case.group,
            "target": target,
            "estimate": True,
            "implementations": [{"implementation": one.name, **summary.document(one)} for one in timelines],
            "failures": [{"implementation": name, "reason": reason} for name, reason in failures],
        }
        printed = json.dumps(document, indent=1, allow_nan=False) + "\n"
    else:
        printed = programs.render_text(results)
    return Outcome(text=printed, page=page, stopped=False)


def _planned(row: Implementation, request: Request) -> bool:
    """Asked for; by default the compiled programs that the TPU compiler takes and the suite would time."""
    if request.only:
        return row.name in request.only
    return row.name in suites.get(_SUITE).only or "tpu" in row.devices or row not in implementations.table()


def _to_text(
    make: Callable[[str, Sequence[Profiled], Sequence[Failure]], Any],
    group: str,
    profiles: Sequence[Profiled],
    failures: Sequence[Failure],
) -> str:
    made = make(group, profiles, failures)
    return made if isinstance(made, str) else json.dumps(made, indent=1, allow_nan=False) + "\n"


def _reasons(failures: Sequence[Failure]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in failures) or "no implementation matches"


def _default_page(group: str, where: str) -> Path:
    return Path(f"profile-{_plain(group)}-{where}.html")


def _plain(group: str) -> str:
    return re.sub(r"[^\w.]+", "-", group).strip("-")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose a writable place") from None
