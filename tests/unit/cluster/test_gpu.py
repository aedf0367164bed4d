from __future__ import annotations

from typing import Any

import pynvml
import pytest

from cluster_ai.cluster import gpu
from cluster_ai.cluster.report import Gpu
from tests.fakes.nvml import Card, Driver

NO_DRIVER = {
    "not loaded": pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    "updated, and not yet loaded anew": pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    "not for this user": pynvml.NVML_ERROR_NO_PERMISSION,
    "a code of later": 999,
}


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    found = Driver(Card("GPU-a"), Card("GPU-b", used=5 << 30))
    monkeypatch.setattr(pynvml, "nvmlLib", found)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return found


def test_each_card_is_told_in_our_units(driver: Driver) -> None:
    assert gpu.cards() == (
        Gpu(0, "NVIDIA H200", 1 << 30, 80 << 30, 0.25, 61.0, 350.5, "GPU-a"),
        Gpu(1, "NVIDIA H200", 5 << 30, 80 << 30, 0.25, 61.0, 350.5, "GPU-b"),
    )
    assert driver.open == 0


@pytest.mark.parametrize("status", NO_DRIVER.values(), ids=NO_DRIVER.keys())
def test_a_driver_that_does_not_begin_tells_nothing(driver: Driver, status: int) -> None:
    driver.fails["nvmlInitWithFlags"] = status
    assert gpu.cards() is None


def test_without_its_library_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", missing)
    assert gpu.cards() is None


def test_a_driver_that_does_not_know_how_many_tells_nothing_and_is_closed(driver: Driver) -> None:
    driver.fails["nvmlDeviceGetCount_v2"] = pynvml.NVML_ERROR_UNKNOWN
    assert gpu.cards() is None
    assert driver.open == 0


def test_a_driver_without_a_function_is_as_one_that_does_not_tell(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Driver, "nvmlDeviceGetPowerUsage")
    found = gpu.cards()
    assert found is not None
    assert [(it.temperature, it.power) for it in found] == [(61.0, None)] * 2


@pytest.mark.parametrize("function", ["HandleByIndex", "MemoryInfo", "Name", "UUID"])
@pytest.mark.parametrize("status", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED])
def test_one_that_fell_off_the_bus_is_left_out_and_the_others_keep_their_numbers(
    driver: Driver, function: str, status: int
) -> None:
    driver.cards[0].fails[function] = status
    found = gpu.cards()
    assert found is not None
    assert [(it.index, it.uuid) for it in found] == [(1, "GPU-b")]
    assert driver.open == 0


def test_with_all_of_them_gone_there_are_none_and_the_driver_still_tells(driver: Driver) -> None:
    for card in driver.cards:
        card.fails["HandleByIndex"] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert gpu.cards() == ()


@pytest.mark.parametrize("told", [{"fails": {"MemoryInfo": pynvml.NVML_ERROR_NOT_SUPPORTED}}, {"used": 0, "total": 0}])
def test_one_that_shares_the_memory_of_its_host_is_there_with_none_of_its_own(
    driver: Driver, told: dict[str, Any]
) -> None:
    """As GB10 (DGX Spark) and Jetson."""
    driver.cards[:] = [Card("GPU-a", **told)]
    assert gpu.cards() == (Gpu(0, "NVIDIA H200", None, None, 0.25, 61.0, 350.5, "GPU-a"),)


@pytest.mark.parametrize(
    ("function", "field"), [("UtilizationRates", "usage"), ("Temperature", "temperature"), ("PowerUsage", "power")]
)
def test_what_a_card_does_not_support_is_unknown(driver: Driver, function: str, field: str) -> None:
    """As a card that is split (MIG) tells no usage, and a passively cooled one no power."""
    driver.cards[0].fails[function] = pynvml.NVML_ERROR_NOT_SUPPORTED
    found = gpu.cards()
    assert found is not None
    told = {"usage": 0.25, "temperature": 61.0, "power": 350.5}
    for card, expected in zip(found, ({**told, field: None}, told), strict=True):
        assert {name: getattr(card, name) for name in told} == expected
