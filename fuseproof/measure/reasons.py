"""Why a case or an implementation cannot be measured here, with the remedy. Imports no framework."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation, reason_not_installed
from fuseproof.runs.plan import Plan
from fuseproof.units import memory
from fuseproof.workloads.builtin import MODULES
from fuseproof.workloads.tensor import MODULE_PASSES

# NVIDIA's boards and modules, Windows' subsystem, and AMD, which PyTorch calls cuda too.
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvmap", "/dev/dxg", "/dev/kfd")


def reason_to_skip(implementation: Implementation, case: Case, device: str) -> str | None:
    """Why it cannot run `case` here, with the remedy, else None. Imports no framework to find out."""
    if (reason := reason_not_here(implementation, device)) is not None:
        return reason
    if (reason := reason_too_large(case)) is not None:
        return reason
    if case.cache == "cold" and case.pass_ in MODULE_PASSES:
        return "a module has one set of parameters, so it is measured with a warm cache"
    if (reason := implementation.reason_against(case.pass_)) is not None:
        return reason
    if not implementation.takes(case.pass_):
        return f"has no {case.pass_} pass yet"
    if case.dtype == "tf32" and device == "cpu":
        return "TF32 is a mode of NVIDIA's tensor cores; on a CPU it would be float32 again"
    if case.dtype not in implementation.dtypes:
        return f"takes no {case.dtype}; only {', '.join(implementation.dtypes)}"
    return None


def reason_not_here(implementation: Implementation, device: str) -> str | None:
    """Why it can run no case here, with the remedy, else None. Imports no framework to find out."""
    return reason_without_package(implementation) or implementation.reason_not_on(device)


def reason_without_package(implementation: Implementation) -> str | None:
    """How to install its framework, or what its model or itself is of, if that is not installed."""
    model = MODULES.get(implementation.workload)
    of_keras = "keras" if implementation.name.startswith("keras.") else ""
    return (
        reason_without_framework(implementation.framework)
        or (None if model is None else reason_not_installed(model.requires))
        or reason_not_installed(of_keras)
    )


def reason_too_large(case: Case) -> str | None:
    """Why the inputs and the output do not fit in memory, where NumPy makes them in float32, else None."""
    tensors = (*case.workload.inputs_by_name.values(), *case.workload.outputs_by_name.values())
    needed = 4 * sum(tensor.size for tensor in tensors)
    there = psutil.virtual_memory().total
    if needed <= there:
        return None
    return f"its tensors take {size(needed)}, this machine has {size(there)}; choose a smaller shape"


def size(count: int) -> str:
    """Bytes, however many: Python's integers have no limit, floats have."""
    return memory(count) if count < 2**60 else f"more than {memory(2**60)}"


def reason_without_framework(framework: str) -> str | None:
    """How to install the framework if it is not installed, else None."""
    if importlib.util.find_spec(framework) is None:
        return f"{framework} is not installed; pip install 'fuseproof[{framework}]'"
    return None


class AbsentDevice(UserError):
    """The device that a plan is for is not here."""


def refuse_absent_device(plan: Plan) -> None:
    """Raises AbsentDevice if no framework of the plan sees the plan's device. Takes no time for the CPU.

    Without a driver's device file there is no GPU. With one, a short process for each framework imports it
    and asks: a few seconds, all of them at once.
    """
    device = plan.settings.device
    if device == "cpu":
        return
    remedy = "measure with --device cpu, or where there is a GPU (`fuseproof doctor` says what is here)"
    if (reason := reason_without_driver()) is not None:
        raise AbsentDevice(f"--device {device}: {reason}; {remedy}")
    with ThreadPoolExecutor(len(plan.frameworks)) as pool:
        answers = list(pool.map(lambda framework: _reason_without_device(framework, device), plan.frameworks))
    if None not in answers:
        raise AbsentDevice(f"--device {device}: {'; '.join(filter(None, answers))}; {remedy}")


def reason_without_driver() -> str | None:
    """Why there is certainly no GPU, None if there may be one. Takes no time."""
    if any(Path(file).exists() for file in _DEVICE_FILES):
        return None
    return "no driver of a GPU is loaded here"


def _reason_without_device(framework: str, device: str) -> str | None:
    """Why a framework does not see the device, else None; None too if it cannot be asked."""
    code = (
        "import sys\nfrom fuseproof import frameworks\n"
        f"try: frameworks.load({framework!r}).configure(device={device!r}, threads=1)\n"
        "except NotImplementedError as error: sys.exit('absent: ' + ' '.join(str(error).split()))"
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, text=True, errors="replace", timeout=120
        )
        last = (done.stderr.splitlines() or [""])[-1]
        return last.removeprefix("absent: ") if last.startswith("absent: ") else None
    return None
