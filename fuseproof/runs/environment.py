"""The machine and software of a run, and the fingerprint that must match before runs may be compared."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import psutil

from fuseproof import privacy
from fuseproof.runs import variables

# Their versions change what is measured in a framework.
_PACKAGES_OF: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch", "triton", "onnxruntime", "onnx", "onnxscript", "openvino", "numpy"),
    "jax": ("jax", "jaxlib", "flax", "equinox", "optax", "numpy"),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "keras", "ai-edge-litert", "numpy"),
}
_ON_A_TPU = ("libtpu",)
PACKAGES = tuple(dict.fromkeys((*chain(*_PACKAGES_OF.values()), *_ON_A_TPU)))

# Increased when the way of measuring changes so much that old and new measurements must not be compared.
METHOD = 2

_DEFAULT_LAST_LEVEL_CACHE = 64 * 2**20


def usable_cpus() -> list[int]:
    """The CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def describe(*, device: str, threads: int) -> dict[str, Any]:
    """The machine, software and state at the start of a run."""
    return {
        "device": device,
        "threads": threads,
        "cpu": cpu(),
        "gpu": gpus() if device != "cpu" else [],
        "memory_bytes": psutil.virtual_memory().total,
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": package_versions(),
        **variables.recorded(os.environ),
        "load_average": list(os.getloadavg()),
        "hypervisor": is_virtual_machine(),
    }


def is_virtual_machine() -> bool:
    """Whether the CPU says that a hypervisor runs it."""
    return "hypervisor" in _cpuinfo("flags").split()


def cpu() -> dict[str, Any]:
    """Model, usable cores, last-level cache and frequency governor of the CPU."""
    return {
        "model": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": len(usable_cpus()),
        "last_level_cache_bytes": last_level_cache(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo_disabled": _read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
        "smt": _read("/sys/devices/system/cpu/smt/active"),
    }


def last_level_cache() -> int:
    """Bytes of the largest cache of CPU 0; 64 MiB if the kernel does not report it."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        match = re.fullmatch(r"(\d+)([KM]?)", path.read_text().strip())
        if match:
            sizes.append(int(match[1]) * {"": 1, "K": 2**10, "M": 2**20}[match[2]])
    return max(sizes, default=_DEFAULT_LAST_LEVEL_CACHE)


def gpus() -> list[dict[str, Any]]:
    """Name, driver, memory, clocks and power limit of each NVIDIA GPU, by NVML; empty without one."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _gpu(pynvml: Any, index: int) -> dict[str, Any]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)

    def ask(function: str, *arguments: Any) -> Any:
        try:
            return getattr(pynvml, function)(handle, *arguments)
        except pynvml.NVMLError:  # boards differ in what they support
            return None

    memory = ask("nvmlDeviceGetMemoryInfo")
    return {
        "name": ask("nvmlDeviceGetName"),
        "driver": pynvml.nvmlSystemGetDriverVersion(),
        "memory_bytes": memory.total if memory else None,
        "max_sm_clock_mhz": ask("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM),
        "power_limit_milliwatts": ask("nvmlDeviceGetPowerManagementLimit"),
    }


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that change what is measured; imports none of them."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def packages_used(framework: str | None, device: str | None) -> tuple[str, ...]:
    """Those whose versions change what is measured in this framework; all of an unknown one."""
    of = _PACKAGES_OF.get(framework or "", PACKAGES)
    return (*of, *_ON_A_TPU) if device == "tpu" else of


def fingerprint_fields(environment: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What must match before two runs may be compared, by name, so that a difference can be named."""
    hardware = environment["cpu"]
    return {
        "method": METHOD,
        "device": environment["device"],
        "threads": environment["threads"],
        "cpu": hardware["model"],
        "cores": hardware["cores"],
        "gpu": [gpu["name"] for gpu in environment["gpu"]],
        "driver": sorted({gpu["driver"] for gpu in environment["gpu"]}),
        "os": environment["os"],
        "python": ".".join(environment["python"].split(".")[:2]),
        "packages": dict(environment["packages"]),
        "leg_seconds": settings["leg_seconds"],
        **({"share_process": True} if settings.get("share_process") else {}),
        **({"scale": settings["scale"]} if settings.get("scale") else {}),
    }


def fingerprint(fields: Mapping[str, Any]) -> str:
    """A short hash of the fields."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def machine_info() -> dict[str, Any]:
    """The fields of pytest-benchmark's `machine_info` that its readers use."""
    return {
        "node": privacy.machine_id(),  # its readers want one; the host's name is nobody's business
        "machine": platform.machine(),
        "system": platform.system(),
        "release": platform.release(),
        "python_implementation": platform.python_implementation(),
        "python_version": platform.python_version(),
        "cpu": {"brand_raw": cpu()["model"], "count": len(usable_cpus()), "arch": platform.machine()},
    }


def commit_info() -> dict[str, Any]:
    """The commit of the current folder, in pytest-benchmark's form; empty outside a repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {
        "id": commit,
        "time": _git("show", "-s", "--format=%cI", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "branch": _git("rev-parse", "--abbrev-ref", "HEAD"),
    }


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpuinfo(field: str) -> str:
    text = _read("/proc/cpuinfo") or ""
    match = re.search(rf"^{field}\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else ""


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None
