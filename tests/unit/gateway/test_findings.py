"""What the gateway tells of a worker's cards. The driver's library is a fake; the way through a heartbeat is real."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from prometheus_client import CollectorRegistry

from cluster_ai.cluster import gpu, report
from cluster_ai.cluster.membership import Member, View
from cluster_ai.gateway.admission.account import Account
from cluster_ai.gateway.admission.gate import Gate
from cluster_ai.gateway.exposition import Exposition
from cluster_ai.gateway.findings import findings
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.metering import Meter
from cluster_ai.settings import GatewaySettings, LimitSettings, Upstream
from tests.fakes.nvml import Card, Driver

GB = 10**9
SHARING = {"MemoryInfo": pynvml.NVML_ERROR_NOT_SUPPORTED}


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    found = Driver(Card("GPU-a", total=24 * GB))
    monkeypatch.setattr(pynvml, "nvmlLib", found)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return found


def member() -> Member:
    said = report.Report("w", 0.0, 0.5, 20, 10 * GB, 128 * GB, 0, gpu.cards() or (), "0.17.4", "", ())
    heard = report.parse(json.loads(json.dumps(report.dump(said))))
    assert heard == said
    return Member("w", "tls://w:1", "running", 0, heard)


def upstream(gpu_memory: int, memory: int) -> Upstream:
    return Upstream("w", "https://w", ("M",), 1, 1, gpu_memory, gpu_room=gpu_memory, ram_room=memory * 8 // 10)


def test_a_card_that_has_less_memory_than_models_are_to_have_is_told(driver: Driver) -> None:
    assert findings(upstream(24 * GB, 128 * GB), member()) == ()
    assert findings(upstream(48 * GB, 128 * GB), member()) == (
        "models are to have 48 GB of its cards' memory (resources.gpu_memory), which is 24 GB",
    )


def test_memory_that_cards_share_with_their_host_is_told_where_it_is_given_out_twice(driver: Driver) -> None:
    driver.cards[0].fails = SHARING
    assert findings(upstream(96 * GB, 32 * GB), member()) == ()
    assert findings(upstream(96 * GB, 128 * GB), member()) == (
        "its cards share the host's 128 GB of memory, of which models may take 96 GB there and 102 GB in RAM: "
        "divide it between resources.gpu_memory and resources.memory",
    )


def test_a_card_that_shares_its_host_s_memory_has_no_series_of_it_but_all_others(driver: Driver) -> None:
    driver.cards = [Card("GPU-a"), Card("GPU-b", fails=SHARING)]
    fleet = Fleet(GatewaySettings("c", "h", 1, "least_loaded", (), "tls://s:1", (upstream(1, 1),), {"M": 512}))
    meter = Meter(CollectorRegistry())
    gate = Gate(LimitSettings(), fleet.able, fleet.awaited, Account(None), meter)
    dask: Any = SimpleNamespace(view=View({"w": member()}, None, time.monotonic()), connected=True)
    told = Exposition(fleet, dask, meter, gate).collect()
    cards = {family.name: [it.labels["gpu"] for it in family.samples if "gpu" in it.labels] for family in told}
    assert cards["worker_gpu_memory"] == cards["worker_gpu_memory_capacity"] == ["0"]
    assert cards["worker_gpu_usage"] == cards["worker_gpu_power_watts"] == ["0", "1"]
