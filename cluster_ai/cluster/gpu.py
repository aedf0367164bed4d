"""NVIDIA cards as the driver's library (NVML) sees them. The only module that asks it."""

from __future__ import annotations

import contextlib

import pynvml

from cluster_ai.cluster.report import Gpu


def cards() -> tuple[Gpu, ...] | None:
    """Every card now; None: there is no driver, or it doesn't tell.

    May block for as long as the driver does: call it from a thread.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        found = (_card(i) for i in range(pynvml.nvmlDeviceGetCount()))
        return tuple(c for c in found if c is not None)
    except pynvml.NVMLError:
        return None
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _card(index: int) -> Gpu | None:
    """None for one that has fallen off the bus."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        name, uuid = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle)
    except pynvml.NVMLError:
        return None
    usage = temperature = power = None
    with contextlib.suppress(pynvml.NVMLError):  # not every card tells
        usage = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    with contextlib.suppress(pynvml.NVMLError):
        temperature = float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
    with contextlib.suppress(pynvml.NVMLError):
        power = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
    return Gpu(index, _text(name), int(memory.used), int(memory.total), usage, temperature, power, _text(uuid))


def _text(said: str | bytes) -> str:
    return said if isinstance(said, str) else said.decode()
