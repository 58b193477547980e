"""A board that this machine lacks: a module that answers as nvidia-ml-py 13 does, with the same names."""

from __future__ import annotations

import ctypes
import types


class Field(ctypes.Structure):
    class Value(ctypes.Union):
        _fields_ = [("dVal", ctypes.c_double), ("uiVal", ctypes.c_uint)]

    _fields_ = [("nvmlReturn", ctypes.c_uint), ("value", Value)]


def board(*, refuses=(), instant=250_500):
    """A module that answers as nvidia-ml-py does for one board; every call that `refuses` names raises."""
    module = types.ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def answers(name, value):
        def ask(*arguments):
            module.called.append((name, *arguments))
            if name in refuses:
                raise NVMLError(name)
            return value(*arguments) if callable(value) else value

        setattr(module, name, ask)

    def fields(handle, wanted):
        assert wanted == [186]
        field = Field(nvmlReturn=0 if instant is not None else 3)
        field.value.uiVal = instant or 0
        return [field]

    module.NVMLError = NVMLError
    module.called = []
    module.NVML_SUCCESS, module.NVML_FI_DEV_POWER_INSTANT = 0, 186
    module.NVML_CLOCK_SM, module.NVML_CLOCK_MEM, module.NVML_TEMPERATURE_GPU = 1, 2, 0
    energy = iter(range(1_000_000, 10**12, 500))
    for name, value in {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetHandleByIndex": lambda index: f"handle {index}",
        "nvmlDeviceGetHandleByUUID": lambda uuid: f"handle {uuid}",
        "nvmlDeviceGetName": "NVIDIA H100",
        "nvmlDeviceGetFieldValues": fields,
        "nvmlDeviceGetPowerUsage": 240_000,
        "nvmlDeviceGetClockInfo": lambda handle, clock: {1: 1980, 2: 2619}[clock],
        "nvmlDeviceGetTemperature": lambda handle, sensor: 41,
        "nvmlDeviceGetMemoryInfo": types.SimpleNamespace(total=80, used=7, free=73),
        "nvmlDeviceGetCurrentClocksEventReasons": 4,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 8,
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: next(energy),
    }.items():
        answers(name, value)
    return module
