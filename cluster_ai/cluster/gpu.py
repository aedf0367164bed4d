"""NVIDIA cards as the driver's library (NVML) sees them. The only module that asks it."""

from __future__ import annotations

import contextlib
from typing import Any

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
        used, total = _memory(handle)
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
    return Gpu(index, _text(name), used, total, usage, temperature, power, _text(uuid))


def _memory(handle: Any) -> tuple[int, int] | tuple[None, None]:
    """Bytes used and in all; None: the card has none of its own, it shares the host's.

    NVML supports no figure of such a card (GB10 of DGX Spark, Jetson), or tells none in all, and nvidia-smi shows
    [N/A]: https://docs.nvidia.com/dgx/dgx-spark/known-issues.html, https://github.com/Syllo/nvtop/pull/411. Monitors
    then show the host's memory as the card's; here it stays unknown, since the host's is told beside it.
    """
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError_NotSupported:
        return None, None
    return (int(memory.used), int(memory.total)) if memory.total else (None, None)


def _text(said: str | bytes) -> str:
    return said if isinstance(said, str) else said.decode()
