"""Probes of an NVIDIA board's sensors, through nvidia-ml-py (extra `gpu`).

Power is the instantaneous field where the driver has it: the plain reading is an average over a second on
newer boards. The energy counter ticks every 10 ms or slower, so it is read over a second or more.
Source: NVML API reference, field values and device queries. Not verified on hardware.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from fuseproof.profiling.capture.sampling import Probe

ENERGY: Final = "energy"


@contextlib.contextmanager
def probes(variables: Mapping[str, str] = os.environ) -> Iterator[list[Probe]]:
    """Probes of the first board that CUDA_VISIBLE_DEVICES in `variables` makes visible.

    They may be read only while the context is open. Empty without nvidia-ml-py, a driver or a board.
    """
    try:
        import pynvml
    except ModuleNotFoundError:
        yield []
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield []
        return
    try:
        try:
            handle, label = _board(pynvml, variables.get("CUDA_VISIBLE_DEVICES"))
        except pynvml.NVMLError:
            yield []
            return
        yield list(_probes(pynvml, handle, label))
    finally:
        pynvml.nvmlShutdown()


def _board(pynvml: Any, visible: str | None) -> tuple[Any, str]:
    """Handle and label. NVML's board numbers are the worker's, which has CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    first = "0" if visible is None else visible.split(",")[0].strip()
    if first.isdigit():
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(first))
    else:
        handle = pynvml.nvmlDeviceGetHandleByUUID(first)
    name = pynvml.nvmlDeviceGetName(handle)
    return handle, f"GPU {first} {name.decode() if isinstance(name, bytes) else name}"


def _probes(pynvml: Any, handle: Any, label: str) -> Iterator[Probe]:
    def probe(name: str, unit: str, source: str, ask: Callable[[], float | None]) -> Probe:
        def read() -> float | None:
            try:
                return ask()
            except pynvml.NVMLError:  # not every board has every sensor
                return None

        return Probe(name=name, unit=unit, device=label, source=source, read=read)

    def instant_power() -> float | None:
        (field,) = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])
        # A field has its own return code, and its value is a union: an unsigned int for power.
        return field.value.uiVal / 1e3 if field.nvmlReturn == pynvml.NVML_SUCCESS else None

    def whole(function: str, *arguments: Any) -> Callable[[], float]:
        return lambda: float(getattr(pynvml, function)(handle, *arguments))

    instant = probe("power", "W", "NVML_FI_DEV_POWER_INSTANT", instant_power)
    if instant.read() is not None:
        yield instant
    else:
        average = "nvmlDeviceGetPowerUsage (may be an average over a second)"
        yield probe("power", "W", average, lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3)
    for name, clock in (("sm_clock", pynvml.NVML_CLOCK_SM), ("memory_clock", pynvml.NVML_CLOCK_MEM)):
        yield probe(name, "MHz", "nvmlDeviceGetClockInfo", whole("nvmlDeviceGetClockInfo", clock))
    temperature = whole("nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU)
    yield probe("temperature", "°C", "nvmlDeviceGetTemperature", temperature)
    yield probe(
        "memory_used",
        "bytes",
        "nvmlDeviceGetMemoryInfo: of all processes",
        lambda: float(pynvml.nvmlDeviceGetMemoryInfo(handle).used),
    )
    # The newer of the two names came with driver 535.
    for function in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        reasons = probe("clock_event_reasons", "bits", function, whole(function))
        if reasons.read() is not None:
            yield reasons
            break
    yield probe(
        ENERGY,
        "J",
        "nvmlDeviceGetTotalEnergyConsumption",
        lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
    )
