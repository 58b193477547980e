"""Which config is fastest on this GPU: measured once for each problem, kept in memory and on disk.

Each GPU and set of versions has a file, named by the device and by a hash of everything that could change the
answer: driver, triton and torch versions and the source of all Triton kernels. It is in the folder `tuning`
of `$FUSEPROOF_TUNING_CACHE` (`$FUSEPROOF_CACHE`, its older name, is read where that is not set), or of
`fuseproof` in `$XDG_CACHE_HOME` (`~/.cache`). An entry keeps the seconds of every candidate, so that a reader
can check the choice.
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

# A later candidate must be faster by this share: within the noise of the timing the order of the candidates
# decides, so that two processes that tune the same problem agree.
_MARGIN = 0.01

# The folder of all Triton kernels, whose source a choice depends on.
KERNELS = Path(__file__).resolve().parent

# Milliseconds of calls before and during the timing of one candidate.
_WARM_UP, _REPETITION = 10, 40

_chosen: dict[tuple[str, tuple[object, ...], torch.device], Any] = {}
_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The device and the versions for which a measured choice is valid."""

    name: str
    capability: str
    driver: str
    triton: str
    torch: str

    def file(self, source: str) -> Path:
        """The file of choices for kernels whose source has this hash."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-")
        digest = hashlib.sha256(json.dumps([asdict(self), source]).encode()).hexdigest()[:16]
        return cache_directory() / "tuning" / f"{slug}-sm_{self.capability}-{digest}.json"


def choose(
    name: str,
    key: tuple[object, ...],
    candidates: Sequence[C],
    launches_of: Callable[[C], Sequence[Launch]],
    device: torch.device,
) -> C:
    """The fastest of `candidates` for the problem `key` of the operator `name` on `device`.

    The first call with a key on a CUDA device times every candidate and remembers the fastest; it skips a
    candidate that does not compile or launch. `candidates[0]`, the best guess, is taken without timing on any
    other device, while a CUDA graph is captured (unless the choice is known already), and with
    FUSEPROOF_AUTOTUNE=0.

    Args:
        key: what the best candidate depends on; plain values that differ in their `repr`.
        candidates: frozen dataclasses of plain values, all correct for the problem.
        launches_of: the launches of one candidate. They may run any number of times.

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
        file = gpu_of(device).file(hash_of_source(KERNELS))
        entry = f"{name}{key!r}"
        choice = _find(candidates, _read(file).get(entry))
        if choice is None:
            try:
                seconds = _time_all(name, key, candidates, launches_of, device)
            except torch.cuda.OutOfMemoryError:
                # Not a candidate's fault: a timing itself takes 256 MB, to clear the L2 cache.
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


def cache_directory() -> Path:
    """The directory that holds the folder `tuning`; `fuseproof` in the user's cache unless one is named."""
    for variable in ("FUSEPROOF_TUNING_CACHE", "FUSEPROOF_CACHE"):  # the second is the older name
        if named := os.environ.get(variable):
            return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fuseproof"


def fastest(candidates: Sequence[C], seconds: Sequence[float | None]) -> C:
    """The first candidate within 1 % of the least time. Seconds are None for a candidate that did not run."""
    limit = min(value for value in seconds if value is not None) * (1 + _MARGIN)
    return next(
        candidate
        for candidate, value in zip(candidates, seconds, strict=True)
        if value is not None and value <= limit
    )


def measure(launches: Sequence[Launch], device: torch.device) -> float:
    """Seconds that the launches take in sequence from a cold L2 cache: the median over 40 ms of calls."""

    def run() -> None:
        for launch in launches:
            launch.run()

    with torch.cuda.device(device):
        milliseconds = triton.testing.do_bench(run, warmup=_WARM_UP, rep=_REPETITION, return_mode="median")
    return float(milliseconds) / 1e3


def compile_all(candidates: Sequence[Sequence[Launch]], device: torch.device) -> None:
    """Compile the launches of all candidates, each on a core: compiling takes most of the time of tuning."""

    def work(launches: Sequence[Launch]) -> None:
        # A launch that does not compile fails again, and is reported, when it is timed.
        with torch.cuda.device(device), contextlib.suppress(Exception):
            for launch in launches:
                launch.compile()

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(work, candidates))


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured: a timing would end the capture or become part of the graph."""
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
        return "unknown"  # then files differ by the versions of triton and torch alone
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
    launches_of: Callable[[C], Sequence[Launch]],
    device: torch.device,
) -> list[float | None]:
    """Seconds of each candidate, None for one that does not run. Raises RuntimeError if none runs."""
    seconds: list[float | None] = []
    reasons = []
    to_time = [launches_of(candidate) for candidate in candidates]
    compile_all(to_time, device)
    for candidate, launches in zip(candidates, to_time, strict=True):
        try:
            value = measure(launches, device)
        except torch.cuda.OutOfMemoryError:
            raise
        # RuntimeError: passes of the compiler and the CUDA driver raise no subclass of it.
        except (TritonError, RuntimeError) as error:
            reasons.append(f"{candidate}: {' '.join(str(error).split())[:200]}")
            seconds.append(None)
        else:
            seconds.append(value if math.isfinite(value) else None)
    if all(value is None for value in seconds):
        raise RuntimeError(f"{name}: no config runs for {key}: " + "; ".join(reasons))
    return seconds


@functools.cache
def hash_of_source(root: Path) -> str:
    """A hash of names and contents of all Python files below `root`: kernels share code across folders."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        for part in (str(path.relative_to(root)).encode(), path.read_bytes()):
            digest.update(
                len(part).to_bytes(8, "little") + part
            )  # with the length, so that no two run together
    return digest.hexdigest()


def _find(candidates: Sequence[C], entry: object) -> C | None:
    """The candidate that an entry of the file names, if the entry compares exactly these candidates."""
    match entry:
        case {"config": config, "timed": [*timed]}:
            known = [_as_json(candidate) for candidate in candidates]
            if config in known and [one.get("config") for one in timed if isinstance(one, dict)] == known:
                return candidates[known.index(config)]
    return None


def _as_json(candidate: Any) -> Any:
    # Through JSON and back, so that an infinity or a tuple compares equal to what was read.
    return json.loads(json.dumps(asdict(candidate)))


def _read(file: Path) -> dict[str, Any]:
    """The entries of a file; empty if it is missing or, with a warning, if it is damaged."""
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
    """Add an entry to the file, atomically; if it cannot be written, a warning says so."""
    timed = [
        {"config": _as_json(candidate), "seconds": value}
        for candidate, value in zip(candidates, seconds, strict=True)
    ]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.with_suffix(".lock")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # reading it has warned of a damaged file already
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
    """Hold an exclusive lock, so that processes which add to the same file lose no entry."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
