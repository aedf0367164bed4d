"""A forecast from what Prometheus tells."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cluster_ai.gateway.models import history
from cluster_ai.gateway.models.history import History
from cluster_ai.scaling.forecast import DAY


@dataclass
class Prometheus:
    url: str = ""
    values: list[Any] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    status: int = 200

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.query["query"])
        result = [{"metric": {}, "values": self.values}] if self.values else []
        return web.json_response({"data": {"result": result}}, status=self.status)


@pytest.fixture
async def prometheus() -> AsyncIterator[Prometheus]:
    it = Prometheus()
    app = web.Application()
    app.router.add_get("/api/v1/query_range", it.answer)
    async with TestServer(app) as server:
        it.url = str(server.make_url("")).rstrip("/")
        yield it


async def test_days_of_history_make_a_forecast_which_serves_for_a_while(prometheus: Prometheus) -> None:
    prometheus.values = [[600 * i, str(3 + 2 * math.sin(600 * i / DAY * 2 * math.pi))] for i in range(600)]
    prometheus.values[5][1] = "NaN"
    async with aiohttp.ClientSession() as client:
        it = History(client, prometheus.url)
        found = await it.forecast("m:latest")
        assert found is not None
        assert found.at([600 * 600 + DAY / 4])[0] == pytest.approx(
            3 + 2 * math.sin((600 * 600 + DAY / 4) / DAY * 2 * math.pi), abs=0.3
        )
        assert await it.forecast("m:latest") is found
        assert prometheus.asked == ['sum(rate(model_inference_time_seconds_sum{model="m:latest"}[600s]))']


async def test_prometheus_is_asked_again_soon_after_it_did_not_answer(
    prometheus: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "FAILED", 0.0)
    async with aiohttp.ClientSession() as client:
        it = History(client, prometheus.url)
        prometheus.values = [["what"]]
        assert await it.forecast("m") is None
        prometheus.values = [[600 * i, str(3 + 2 * math.sin(600 * i / DAY * 2 * math.pi))] for i in range(600)]
        assert await it.forecast("m") is not None
        await it.forecast("m")
    assert len(prometheus.asked) == 2


@pytest.mark.parametrize(("values", "status"), [([], 200), ([[0, "1"], [600, "2"]], 200), (["what"], 200), ([], 503)])
async def test_without_history_there_is_none(prometheus: Prometheus, values: list[Any], status: int) -> None:
    prometheus.values, prometheus.status = values, status
    async with aiohttp.ClientSession() as client:
        assert await History(client, prometheus.url).forecast("m") is None
        assert await History(client, None).forecast("m") is None
        assert await History(client, "http://127.0.0.1:9").forecast("m") is None
