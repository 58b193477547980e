"""Is this machine fit to measure? What is installed, what the hardware is, what disturbs measurements."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from fuseproof.frameworks import host_memory
from fuseproof.implementations import FRAMEWORKS
from fuseproof.runs import environment

# Share of the usable cores that other processes may keep busy before measurements suffer.
_BUSY = 0.10
_LOAD_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fact about the machine.

    status: `ok`, `note` (worth knowing, nothing to repair) or `warning` (measurements will suffer).
    found:  what it is, and what it does to a measurement; remedy: what to do about it, empty if nothing.
    """

    name: str
    status: str
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """All findings: software, processor, load, memory, GPU. Takes about half a second, to see the load."""
    return [*_software(), *_processor(), *_load(), *_memory(), *_gpu()]


def _software() -> Iterator[Finding]:
    versions = environment.package_versions()
    for framework in FRAMEWORKS:
        installed = importlib.util.find_spec(framework) is not None
        version = versions.get(framework) or versions.get(f"{framework}-cpu", "")
        yield Finding(
            name=framework,
            status="ok" if installed else "note",
            found=version or "installed" if installed else "not installed; its implementations are skipped",
            remedy="" if installed else f"pip install 'fuseproof[{framework}]'",
        )
    compiler = next((name for name in ("g++", "clang++") if shutil.which(name)), None)
    yield Finding(
        name="C++ compiler",
        status="ok" if compiler else "warning",
        found=compiler or "none: torch.compile cannot compile for the CPU",
        remedy="" if compiler else "install g++",
    )


def _processor() -> Iterator[Finding]:
    cpu = environment.cpu()
    yield Finding(name="CPU", status="ok", found=f"{cpu['model']}, {cpu['cores']} usable cores")
    governor = cpu["governor"]
    if governor is None:
        found, status, remedy = "not visible here (a virtual machine or container)", "note", ""
    else:
        status = "ok" if governor == "performance" else "warning"
        remedy = "" if status == "ok" else "sudo cpupower frequency-set -g performance"
        found = governor
    yield Finding(name="frequency governor", status=status, found=found, remedy=remedy)
    if cpu["smt"] == "1":
        yield Finding(
            name="SMT",
            status="note",
            found="on: two threads may share a core",
            remedy="pin with taskset to one thread of each core, or --threads to the number of cores",
        )
    if environment.is_virtual_machine():
        yield Finding(
            name="virtual machine",
            status="note",
            found="neighbours on the host can slow single palindromes; the intervals allow for it",
        )


def _load() -> Iterator[Finding]:
    cores = len(environment.usable_cpus())
    busy = sum(psutil.cpu_percent(interval=_LOAD_SECONDS, percpu=True)) / 100
    quiet = busy <= _BUSY * cores
    yield Finding(
        name="load",
        status="ok" if quiet else "warning",
        found=f"{busy:.1f} of {cores} cores busy now, load average {os.getloadavg()[0]:.1f}",
        remedy="" if quiet else "stop other programs while measuring",
    )


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    yield Finding(
        name="memory",
        status="ok" if memory.available > 2 * 2**30 else "warning",
        found=f"{memory.available / 2**30:.1f} GiB available",
        remedy="" if memory.available > 2 * 2**30 else "three frameworks need about 2 GiB",
    )
    measured = host_memory.peak_growth(lambda: bytearray(2**24), repeats=1)
    yield Finding(
        name="peak memory",
        status="note" if measured is None else "ok",
        found="can be measured" if measured is not None else "cannot be measured: no glibc or no /proc here",
    )


def _gpu() -> Iterator[Finding]:
    gpus = environment.gpus()
    for gpu in gpus:
        yield Finding(name="GPU", status="ok", found=f"{gpu['name']}, driver {gpu['driver']}")
    if not gpus:
        yield Finding(name="GPU", status="note", found="none that NVML sees; measure on the CPU")
