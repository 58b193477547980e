"""Deployment runtimes: a call is exported to a file, loaded as a server does, and bound to its inputs.

Each runtime is a module of its own, imported when an implementation asks for it, with two functions: `export`
writes the file, `load` makes of it what binds a call. `in_torch` and `in_tensorflow` call them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fuseproof.child_process import PlainError, described
from fuseproof.frameworks import Deployment

_Loaded = TypeVar("_Loaded")
# Bound before any other code is loaded, which may replace what this name stands for elsewhere.
_clock = time.perf_counter


def deployed(
    runtime: str,
    deployment: Deployment,
    export: Callable[[Path], Path],
    load: Callable[[Path], _Loaded],
) -> _Loaded:
    """What `load` makes of the file, or the folder, that `export` wrote; `deployment` notes what that took.

    The folder it is given is a temporary one, which is gone afterwards: what is loaded must need it no more.
    Raises PlainError with the reason for whatever fails: a model that cannot be exported is a failure.
    """
    with tempfile.TemporaryDirectory(prefix="fuseproof-") as folder:
        started = _clock()
        artifact = _said(f"its export to {runtime} failed", lambda: export(Path(folder)))
        exported = _clock()
        deployment.artifact_bytes = _size(artifact)
        begun = _clock()
        loaded = _said(f"{runtime} cannot load what was exported", lambda: load(artifact))
        deployment.export_seconds = exported - started
        deployment.load_seconds = _clock() - begun
    return loaded


def _said(what: str, do: Callable[[], _Loaded]) -> _Loaded:
    try:
        return do()
    except Exception as error:  # NotImplementedError too, which elsewhere is a skip
        while error.__cause__ is not None and isinstance(error.__cause__, Exception):
            error = error.__cause__  # exporters wrap the reason in pages of advice
        raise PlainError(f"{what}: {described(error)}") from error


def _size(artifact: Path) -> int:
    """Bytes of a file and of those beside it of its name, or of all files in a folder."""
    if artifact.is_dir():
        files = [each for each in artifact.rglob("*") if each.is_file()]
    else:
        files = list(artifact.parent.glob(f"{artifact.stem}.*"))
    return sum(each.stat().st_size for each in files)
