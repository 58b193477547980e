"""Host memory of a call, through glibc and the kernel: the same rule for every framework on the CPU."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import re
from collections.abc import Callable, Iterator
from pathlib import Path

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_PERTURB = -6

# Where glibc's own adjustment of the two thresholds ends in a process that frees large tensors.
_USUAL_MMAP_THRESHOLD = 32 * 2**20
_USUAL_TRIM_THRESHOLD = 2 * _USUAL_MMAP_THRESHOLD

# glibc fills fresh memory with the complement of this byte: 0x7f7f… is 3.4e38 in float32 and in bfloat16,
# far outside any correct output.
_PERTURB = 0x80


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Within, memory from malloc starts as huge values instead of zeros. Without glibc: does nothing."""
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_M_PERTURB, _PERTURB)
    try:
        yield
    finally:
        libc.mallopt(_M_PERTURB, 0)


def peak_growth(call: Callable[[], object], repeats: int = 3) -> int | None:
    """The most bytes by which resident memory grows during a call, the least of `repeats` calls.

    Every tensor of 64 KiB or more is given back to the kernel when it is freed (so the call has to ask for
    it again), and the kernel's own high-water mark is read, so no sampling can miss the peak. The kernel
    counts resident pages in batches, so expect a few hundred KiB of error (seen: 200 KiB of 1 MiB missing);
    smaller tensors may not show. None without glibc or /proc.
    """
    libc = _glibc()
    marker, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if libc is None or not status.exists():
        return None
    libc.mallopt(_M_MMAP_THRESHOLD, 64 * 1024)
    # malloc_trim leaves the free end of every thread's arena but the main one, where XLA's threads find room
    # again without asking the kernel (seen: 0.1 of 16 MiB); at this threshold a large free() returns it.
    libc.mallopt(_M_TRIM_THRESHOLD, 0)
    try:
        call()
        growths = []
        for _ in range(repeats):
            gc.collect()
            libc.malloc_trim(0)
            try:
                marker.write_text("5")  # sets the high-water mark back to what is resident now
            except OSError:  # not every container lets a process do that
                return None
            before = _status_bytes(status, "VmRSS")
            call()
            growths.append(_status_bytes(status, "VmHWM") - before)
        return max(0, min(growths))
    finally:
        # With the low thresholds every later call faults its pages in anew (seen: ten times slower).
        libc.mallopt(_M_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, _USUAL_TRIM_THRESHOLD)


def _status_bytes(status: Path, field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    assert match is not None, f"/proc/self/status has no {field}"
    return int(match[1]) * 1024


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.gnu_get_libc_version  # noqa: B018 - musl has no such symbol
    except (OSError, AttributeError):
        return None
    return libc


class _MallInfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def in_use() -> int | None:
    """Bytes that this process has from malloc and has not freed, exactly. None without glibc 2.33 or newer.

    What Python takes for small objects is not among them, nor what was mapped without malloc.
    """
    libc = _glibc()
    if libc is None or not hasattr(libc, "mallinfo2"):
        return None
    libc.mallinfo2.restype = _MallInfo
    found = libc.mallinfo2()
    return int(found.uordblks + found.hblkhd)
