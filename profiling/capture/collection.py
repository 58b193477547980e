"""The captures of one case, one for each implementation: made now, or read from a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuseproof import implementations
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation
from fuseproof.profiling import capture
from fuseproof.profiling.capture import loading
from fuseproof.profiling.capture import record as capture_record
from fuseproof.profiling.capture.loading import LoadedCapture
from fuseproof.profiling.capture.record import CaptureRecord

Failure = tuple[str, str]  # implementation, reason
DEFAULT_ROOT: Final = Path(".fuseproof/profiles")


@dataclass(frozen=True, kw_only=True)
class Collection:
    """The captures of one case, and the failures. `stopped`: the user interrupted it before the end."""

    group: str
    profiles: Sequence[LoadedCapture]
    failures: Sequence[Failure]
    stopped: bool = False


def plain(group: str, where: str) -> str:
    """A case and the device or target that it was captured for, as a part of a file's name."""
    return re.sub(r"[^\w.]+", "-", group).strip("-") + f"-{where}"


def take(
    case: Case,
    chosen: Sequence[Implementation],
    *,
    device: str,
    directory: Path,
    options: capture.Options,
    progress: Callable[[str], None],
) -> Collection:
    """Capture each of `chosen` into `directory`; a failure is listed with its reason and the others go on.

    After an interrupt the collection has the captures made before it.
    """
    profiles: list[LoadedCapture] = []
    failures: list[Failure] = []
    for i, implementation in enumerate(chosen):
        name = implementation.name
        progress(f"{name} ({i + 1} of {len(chosen)})")
        try:
            capture.capture(case, implementation, device=device, directory=directory, options=options)
            profiles.append(loading.load(capture.folder_of(directory, implementation)))
        except UserError as error:
            failures.append((name, str(error).removeprefix(f"cannot profile {name} of {case.group}: ")))
        except KeyboardInterrupt:
            failures += [(left.name, "stopped before its turn was over") for left in chosen[i:]]
            return Collection(group=case.group, profiles=profiles, failures=failures, stopped=True)
    return Collection(group=case.group, profiles=profiles, failures=failures)


def read(folder: Path, only: Sequence[str] = ()) -> Collection:
    """The captures in a folder, or those in `only`; a capture that cannot be read is listed as a failure.

    Raises UserError if the folder has no capture of a name in `only`, has captures of several cases, or has
    captures that do not compare because their conditions differ.
    """
    found: list[tuple[Path, CaptureRecord]] = []
    failures: list[Failure] = []
    for place in capture_record.folders(folder):
        try:
            found.append((place, capture_record.load(place)))
        except UserError as error:
            failures.append((place.name, str(error)))
    names = {record.implementation.name for _, record in found}
    unknown = [name for name in only if name not in names and name not in dict(failures)]
    if unknown:
        raise UserError(f"{folder} holds no capture of {unknown[0]!r}; there are {', '.join(sorted(names))}")
    if only:
        found = [each for each in found if each[1].implementation.name in only]
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
    found.sort(key=lambda each: order.get(each[1].implementation.name, len(order)))
    profiles = []
    for place, record in found:
        try:
            profiles.append(loading.load(place))
        except UserError as error:
            failures.append((record.implementation.name, str(error)))
    return Collection(group=groups.pop(), profiles=profiles, failures=failures)
