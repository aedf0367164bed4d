"""Changes of models when some of the workers fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from tests.fakes import upstream as fake
from tests.fakes.upstream import Act
from tests.integration.test_gateway_faults import Site, site, until

pytestmark = pytest.mark.integration


async def change(here: Site, path: str, **asked: Any) -> tuple[int, list[dict[str, Any]]]:
    method = "DELETE" if path == "/api/delete" else "POST"
    headers = {"X-Cluster-Worker": asked.pop("on")} if "on" in asked else {}
    async with here.client.request(method, path, json=asked, headers=headers) as reply:
        return reply.status, [json.loads(line) for line in (await reply.read()).splitlines()]


async def test_workers_that_work_alike_are_told_as_one() -> None:
    async with fake.upstream() as one, fake.upstream() as other, site(one, other) as here:
        status, lines = await change(here, "/api/pull", model="new")
        assert status == 200
        assert lines == [{"status": "pulling manifest"}, {"status": "success"}]
        assert await change(here, "/api/pull", model="new", stream=False) == (200, [{"status": "success"}])


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (Act.ERROR_500, "out of memory"),
        (Act.ERROR_LINE, "the runner has stopped"),
        (Act.DIE_MIDWAY, "the connection broke"),
        (Act.END_EARLY, "its answer ended before the work was done"),
        (Act.GARBAGE, "the connection broke"),
    ],
    ids=lambda it: getattr(it, "name", None),
)
async def test_what_failed_on_one_worker_is_told_with_its_name(act: Act, reason: str) -> None:
    async with fake.upstream(act, act) as bad, fake.upstream() as good, site(bad, good) as here:
        status, lines = await change(here, "/api/pull", model="new")
        assert status == 200 or lines == lines[-1:]
        assert lines[-1]["error"].startswith("pulled on w2, but not on w1: ")
        assert reason in lines[-1]["error"]
        status, lines = await change(here, "/api/pull", model="new", stream=False)
        assert status == 502
        assert reason in lines[0]["error"]


async def test_what_failed_on_all_alike_is_told_as_one_engine_would() -> None:
    async with fake.upstream(Act.LOST_MODEL) as one, fake.upstream(Act.LOST_MODEL) as other, site(one, other) as here:
        assert await change(here, "/api/copy", source="fake", destination="x") == (
            404,
            [{"error": "model 'fake' not found"}],
        )


async def test_a_worker_that_goes_down_in_the_midst_is_not_waited_for() -> None:
    async with fake.upstream(Act.SILENT) as bad, fake.upstream() as good, site(bad, good) as here:
        pulling = asyncio.create_task(change(here, "/api/pull", model="new"))
        await until(lambda: bool(bad.asked and good.asked))
        bad.deaf = True
        status, lines = await pulling
        assert status == 502
        assert "not on w1: it went down: no answer within" in lines[-1]["error"]


async def test_a_client_that_leaves_stops_the_work_on_every_worker() -> None:
    async with fake.upstream(Act.SILENT) as one, fake.upstream(Act.SILENT) as other, site(one, other) as here:
        pulling = asyncio.create_task(change(here, "/api/pull", model="new"))
        await until(lambda: bool(one.asked and other.asked))
        pulling.cancel()
        await until(lambda: one.left == other.left == 1)


async def test_a_model_that_a_lost_worker_keeps_is_not_told_to_be_deleted() -> None:
    ending = contextlib.AsyncExitStack()
    lost = await ending.enter_async_context(fake.upstream())
    async with ending, fake.upstream() as good, site(lost, good) as here:
        await ending.aclose()
        await until(lambda: len(here.fleet.active()) == 1)
        status, lines = await change(here, "/api/delete", model="fake")
        assert status == 502
        assert lines[0]["error"].startswith("deleted on w2, but not on w1: ")
        _, lines = await change(here, "/api/pull", model="fake")
        assert "without w1, which can't be reached" in lines[0]["status"]
        assert lines[-1] == {"status": "success"}


async def test_a_change_goes_only_to_the_worker_that_the_client_chose() -> None:
    async with fake.upstream() as one, fake.upstream() as other, site(one, other) as here:
        assert (await change(here, "/api/pull", model="new", on="w2"))[1][-1] == {"status": "success"}
        assert (one.asked, len(other.asked)) == ([], 1)
        status, lines = await change(here, "/api/pull", model="new", on="w9")
        assert (status, lines[0]["error"]) == (404, "there is no worker 'w9' (asked for by x-cluster-worker)")


@pytest.mark.parametrize(
    ("path", "asked", "status", "told"),
    [
        ("/api/pull", {}, 400, "model is required"),
        ("/api/create", {"model": 3}, 400, "model is required"),
        ("/api/copy", {"source": "fake"}, 400, "source and destination are required"),
        ("/api/copy", {"source": "nothing", "destination": "x"}, 404, 'model "nothing" not found'),
        ("/api/delete", {"model": "nothing"}, 404, "model 'nothing' not found"),
        ("/api/push", {"model": "fake"}, 501, "no account at ollama.com"),
    ],
)
async def test_what_is_wrong_is_said_as_ollama_says_it(path: str, asked: Any, status: int, told: str) -> None:
    async with fake.upstream() as engine, site(engine) as here:
        found, lines = await change(here, path, **asked)
        assert found == status
        assert told in lines[0]["error"]
        assert engine.asked == []


@pytest.mark.parametrize("act", [Act.DIE_MIDWAY, Act.END_EARLY], ids=lambda act: act.name)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_stream_that_broke_off_ends_in_the_apis_own_error(path: str, act: Act) -> None:
    async with fake.upstream(act) as bad, site(bad) as here:
        tools = [{"type": "function", "function": {"name": "f"}}]  # such an answer can't go on elsewhere
        _, _, body = await here.ask(path, stream=True, max_tokens=9, messages=[{"role": "user"}], tools=tools)
        *_, event = body.decode().strip().split("\n\n")
        told = json.loads(event.partition("data: ")[2])
        assert "broke off on worker w1" in told["error"]["message"]
        if path == "/v1/messages":
            assert event.startswith("event: error\n")
            assert (told["type"], told["error"]["type"]) == ("error", "api_error")
        else:
            assert (told["error"]["type"], told["error"]["code"]) == ("server_error", "stream_broken")
