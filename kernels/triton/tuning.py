"""Which config is fastest on this GPU: measured once for each problem, remembered in memory and on disk.

One file for each GPU and set of versions, named by the device and by a hash of all that could change the
answer: driver, triton and torch versions and the kernels' source. It lies in `$FUSEPROOF_CACHE`, or in
`fuseproof` under `$XDG_CACHE_HOME` (`~/.cache`). Each entry keeps the seconds of every candidate, so that a
choice can be looked at.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import math
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

import triton
from fuseproof.kernels.triton.launch import Launch
from triton.errors import TritonError

C = TypeVar("C")

# A later candidate must be faster by this share: within the noise of the timing the heuristic's order
# decides, and two processes that tune the same problem agree.
_MARGIN = 0.01

# Milliseconds of calls before and during the timing of one candidate.
_WARM_UP, _REPETITION = 10, 40

_chosen: dict[tuple[str, tuple[object, ...], torch.device], Any] = {}
_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What a measured choice holds for."""

    name: str
    capability: str
    driver: str
    triton: str
    torch: str

    def file(self, source: str) -> Path:
        """Where choices for kernels of this source are kept."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-")
        digest = hashlib.sha256(json.dumps([asdict(self), source]).encode()).hexdigest()[:16]
        return cache_directory() / "tuning" / f"{slug}-sm_{self.capability}-{digest}.json"


def choose(
    name: str,
    key: tuple[object, ...],
    candidates: Sequence[C],
    plan: Callable[[C], Sequence[Launch]],
    device: torch.device,
) -> C:
    """The fastest of `candidates` for the problem `key` of the operator `name` on `device`.

    The first call with a key on a CUDA device times every candidate and remembers the fastest. A candidate
    that does not compile or launch is passed over. `candidates[0]`, the best guess, is taken without timing
    on any other device, while a CUDA graph is captured (unless the choice is known already), and with
    FUSEPROOF_AUTOTUNE=0.

    Args:
        key: what the best candidate depends on; plain values whose `repr` tells them apart.
        candidates: frozen dataclasses of plain values, all correct for the problem.
        plan: the launches of one candidate. They may run any number of times.

    Raises ValueError without candidates and RuntimeError if none of them runs.
    """
    if not candidates:
        raise ValueError(f"{name}: there is no legal config for {key}")
    if device.type != "cuda" or len(candidates) == 1 or not _enabled():
        return candidates[0]
    known = (name, key, device)
    choice: C | None = _chosen.get(known)
    if choice is not None and choice in candidates:
        return choice
    if is_capturing():
        return candidates[0]
    with _lock:
        file = gpu_of(device).file(_source_of(type(candidates[0]).__module__))
        entry = f"{name}{key!r}"
        choice = _find(candidates, _read(file).get(entry))
        if choice is None:
            try:
                seconds = _time_all(name, key, candidates, plan, device)
            except torch.cuda.OutOfMemoryError:
                # No candidate's fault: a timing takes 256 MB to empty the cache with.
                warnings.warn(
                    f"{name}: no memory to time configs for {key}; using {candidates[0]}",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return candidates[0]
            choice = fastest(candidates, seconds)
            _remember(file, entry, choice, candidates, seconds)
        _chosen[known] = choice
    return choice


def forget() -> None:
    """Empty the memory of this process; the files stay."""
    _chosen.clear()


def cache_directory() -> Path:
    """Where measured choices are kept: $FUSEPROOF_CACHE, or `fuseproof` in the user's cache directory."""
    if own := os.environ.get("FUSEPROOF_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fuseproof"


def fastest(candidates: Sequence[C], seconds: Sequence[float | None]) -> C:
    """The candidate of the least time; an earlier one within 1 % of it is preferred. None: it did not run."""
    limit = min(value for value in seconds if value is not None) * (1 + _MARGIN)
    return next(
        candidate
        for candidate, value in zip(candidates, seconds, strict=True)
        if value is not None and value <= limit
    )


def measure(launches: Sequence[Launch], device: torch.device) -> float:
    """Seconds of the launches one after the other, from a cold L2 cache: the median of 40 ms of calls."""

    def run() -> None:
        for launch in launches:
            launch.run()

    with torch.cuda.device(device):
        milliseconds = triton.testing.do_bench(run, warmup=_WARM_UP, rep=_REPETITION, return_mode="median")
    return float(milliseconds) / 1e3


def compile_all(plans: Sequence[Sequence[Launch]], device: torch.device) -> None:
    """Compile the launches of all candidates on all cores: most of a timing is compiling, which needs one."""

    def work(launches: Sequence[Launch]) -> None:
        # What does not compile is met again, and reported, when it is timed.
        with torch.cuda.device(device), contextlib.suppress(Exception):
            for launch in launches:
                launch.compile()

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(work, plans))


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured: a timing would end the capture, or land in the graph."""
    return bool(torch.cuda.is_current_stream_capturing())


@functools.cache
def gpu_of(device: torch.device) -> Gpu:
    """Name and versions of a CUDA device."""
    properties = torch.cuda.get_device_properties(device)
    return Gpu(
        name=properties.name,
        capability=f"{properties.major}{properties.minor}",
        driver=_driver_version(),
        triton=triton.__version__,
        torch=torch.__version__,
    )


def _driver_version() -> str:
    try:
        import pynvml
    except ImportError:
        return "unknown"  # then only the versions of triton and torch tell files apart
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return "unknown"


def _enabled() -> bool:
    return os.environ.get("FUSEPROOF_AUTOTUNE", "1") != "0"


def _time_all(
    name: str,
    key: tuple[object, ...],
    candidates: Sequence[C],
    plan: Callable[[C], Sequence[Launch]],
    device: torch.device,
) -> list[float | None]:
    seconds: list[float | None] = []
    reasons = []
    plans = [plan(candidate) for candidate in candidates]
    compile_all(plans, device)
    for candidate, launches in zip(candidates, plans, strict=True):
        try:
            value = measure(launches, device)
        except torch.cuda.OutOfMemoryError:
            raise
        # RuntimeError: passes of the compiler and the CUDA driver have no type of their own.
        except (TritonError, RuntimeError) as error:
            reasons.append(f"{candidate}: {' '.join(str(error).split())[:200]}")
            seconds.append(None)
        else:
            seconds.append(value if math.isfinite(value) else None)
    if all(value is None for value in seconds):
        raise RuntimeError(f"{name}: no config runs for {key}: " + "; ".join(reasons))
    return seconds


@functools.cache
def _source_of(module: str) -> str:
    """A hash of the Python files in the folder of `module`: kernels share code with their neighbours."""
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return module
    digest = hashlib.sha256()
    for path in sorted(Path(file).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _find(candidates: Sequence[C], entry: object) -> C | None:
    """The candidate an entry names, if it was chosen among these."""
    match entry:
        case {"config": config, "timed": [*timed]}:
            known = [_as_json(candidate) for candidate in candidates]
            if config in known and [row.get("config") for row in timed if isinstance(row, dict)] == known:
                return candidates[known.index(config)]
    return None


def _as_json(candidate: Any) -> Any:
    # Through JSON and back, so that an infinity or a tuple compares equal to what was read.
    return json.loads(json.dumps(asdict(candidate)))


def _read(file: Path) -> dict[str, Any]:
    """The entries of a file; none if it is missing or, with a warning, if it is not what we wrote."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        warnings.warn(f"ignoring {file}: {error}; delete it", RuntimeWarning, stacklevel=3)
        return {}
    if not isinstance(document, dict):
        warnings.warn(
            f"ignoring {file}: it is not a table of configs; delete it", RuntimeWarning, stacklevel=3
        )
        return {}
    return document


def _remember(
    file: Path, entry: str, choice: C, candidates: Sequence[C], seconds: Sequence[float | None]
) -> None:
    """Add an entry to the file, whole or not at all; without a writable directory the memory must do."""
    timed = [
        {"config": _as_json(candidate), "seconds": value}
        for candidate, value in zip(candidates, seconds, strict=True)
    ]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.with_suffix(".lock")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a corrupt file was complained of when it was read
                entries: Mapping[str, Any] = _read(file)
            document = {**entries, entry: {"config": _as_json(choice), "timed": timed}}
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=file.parent, prefix=file.stem, suffix=".tmp", delete=False
            ) as whole:
                json.dump(document, whole, indent=1)
            Path(whole.name).replace(file)
    except OSError as error:
        warnings.warn(f"cannot keep the tuned config in {file}: {error}", RuntimeWarning, stacklevel=3)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Other processes that add to the same file wait here, so that no entry is lost."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
