"""Captures of one case, one for each implementation: made now, or read from the folder that holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseproof import implementations
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation
from fuseproof.profiling import capture
from fuseproof.profiling.capture import captured
from fuseproof.profiling.capture import record as capture_record
from fuseproof.profiling.capture.captured import Profiled
from fuseproof.profiling.capture.record import CaptureRecord

Failure = tuple[str, str]  # implementation, reason


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What there is of one case, and what failed. stopped: the user interrupted it before the end."""

    group: str
    profiles: Sequence[Profiled]
    failures: Sequence[Failure]
    stopped: bool = False


def take(
    case: Case,
    chosen: Sequence[Implementation],
    *,
    device: str,
    directory: Path,
    options: capture.Options,
    progress: Callable[[str], None],
) -> Collection:
    """Capture each of `chosen` into `directory`. What fails is listed with the reason; the others go on.

    An interrupt ends it: what is captured by then is kept.
    """
    profiles: list[Profiled] = []
    failures: list[Failure] = []
    for i, implementation in enumerate(chosen):
        name = implementation.name
        progress(f"{name} ({i + 1} of {len(chosen)})")
        try:
            capture.capture(case, implementation, device=device, directory=directory, options=options)
            profiles.append(captured.load(capture.folder_of(directory, implementation)))
        except UserError as error:
            failures.append((name, str(error).removeprefix(f"cannot profile {name} of {case.group}: ")))
        except KeyboardInterrupt:
            failures += [(left.name, "stopped before its turn was over") for left in chosen[i:]]
            return Collection(group=case.group, profiles=profiles, failures=failures, stopped=True)
    return Collection(group=case.group, profiles=profiles, failures=failures)


def read(folder: Path, only: Sequence[str] = ()) -> Collection:
    """The captures in a folder, those in `only` if given; what cannot be read is listed with the reason.

    Raises UserError if the folder holds none of a name in `only`, captures of several cases, or captures that
    do not compare because they were made under different conditions.
    """
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
        return Collection(group=folder.name, profiles=(), failures=failures)
    if len(groups) > 1:
        raise UserError(f"{folder} holds captures of {len(groups)} cases; name the folder of one")
    unlike = capture_record.unlike([record for _, record in found])
    if unlike is not None:
        raise UserError(
            f"the captures in {folder} do not compare; {unlike}; choose with --only, or capture them alike"
        )
    order = {implementation.name: i for i, implementation in enumerate(implementations.table())}
    found.sort(key=lambda each: order.get(each[1].row.name, len(order)))
    profiles = []
    for place, record in found:
        try:
            profiles.append(captured.load(place))
        except UserError as error:
            failures.append((record.row.name, str(error)))
    return Collection(group=groups.pop(), profiles=profiles, failures=failures)
