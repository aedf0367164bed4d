"""NVIDIA's library as pynvml calls it: C functions that fill in what they are given, and return a status.

pynvml is the real one, so errors are of its classes and values of its types. For `pynvml.nvmlLib`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import pynvml

DONE: int = pynvml.NVML_SUCCESS


@dataclass
class Card:
    """fails: functions that it answers with an error, by their names without nvmlDeviceGet, and which."""

    uuid: str
    used: int = 1 << 30
    total: int = 80 << 30
    fails: dict[str, int] = field(default_factory=dict)
    handle: Any = field(default_factory=pynvml.struct_c_nvmlDevice_t)


class Driver:
    """cards may be changed at any time. fails: as a card's, for functions of no card, whole names."""

    def __init__(self, *cards: Card, **fails: int) -> None:
        self.cards, self.fails = list(cards), fails
        self.open = 0  # times that it was begun, and not ended

    def nvmlInitWithFlags(self, _: int) -> int:  # noqa: N802 (NVML's names, here and below)
        status = self.fails.get("nvmlInitWithFlags", DONE)
        self.open += status == DONE
        return status

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.open -= 1
        return DONE

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.cards)
        return self.fails.get("nvmlDeviceGetCount_v2", DONE)

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:  # noqa: N802
        card: Card = self.cards[index.value]
        device._obj.contents = card.handle
        return card.fails.get("HandleByIndex", DONE)

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:  # noqa: N802
        card = self._card(device)
        memory._obj.total, memory._obj.used, memory._obj.free = card.total, card.used, card.total - card.used
        return card.fails.get("MemoryInfo", DONE)

    def nvmlDeviceGetName(self, device: Any, name: Any, _: Any) -> int:  # noqa: N802
        name.value = b"NVIDIA H200"
        return self._card(device).fails.get("Name", DONE)

    def nvmlDeviceGetUUID(self, device: Any, uuid: Any, _: Any) -> int:  # noqa: N802
        uuid.value = self._card(device).uuid.encode()
        return self._card(device).fails.get("UUID", DONE)

    def nvmlDeviceGetUtilizationRates(self, device: Any, rates: Any) -> int:  # noqa: N802
        rates._obj.gpu, rates._obj.memory = 25, 10
        return self._card(device).fails.get("UtilizationRates", DONE)

    def nvmlDeviceGetTemperature(self, device: Any, _: Any, degrees: Any) -> int:  # noqa: N802
        degrees._obj.value = 61
        return self._card(device).fails.get("Temperature", DONE)

    def nvmlDeviceGetPowerUsage(self, device: Any, milliwatts: Any) -> int:  # noqa: N802
        milliwatts._obj.value = 350_500
        return self._card(device).fails.get("PowerUsage", DONE)

    def _card(self, device: Any) -> Card:
        address = ctypes.addressof(device.contents)
        return next(it for it in self.cards if ctypes.addressof(it.handle) == address)
