"""What a client sees when engines fail in ways that a real one won't on demand."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import uvicorn

from cluster_ai.cluster.membership import Membership
from cluster_ai.gateway import health, reply
from cluster_ai.gateway.admission.books import Books
from cluster_ai.gateway.api.native.kept.database import Database
from cluster_ai.gateway.app import Gateway
from cluster_ai.gateway.auth import Guard
from cluster_ai.gateway.cordons import CordonFile, Cordons
from cluster_ai.gateway.failover import pace
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.health import HealthWatch
from cluster_ai.gateway.identity.audit import Audit
from cluster_ai.gateway.identity.logins import Logins
from cluster_ai.gateway.log import Log
from cluster_ai.gateway.models.blobs import Blobs
from cluster_ai.gateway.relay import session
from cluster_ai.gateway.surroundings import Surroundings
from cluster_ai.gateway.tasks import TaskManager
from cluster_ai.gateway.wire import Wire
from cluster_ai.settings import GatewaySettings, Upstream
from tests.fakes import upstream as fake
from tests.fakes.upstream import Act
from tests.rig.processes import PATIENCE

pytestmark = pytest.mark.integration

ASK = {"model": "fake", "prompt": "x"}
TRIES = 1 + reply.RESUMES  # after which a stream that breaks again and again is given up


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (it becomes true in another task)
            await asyncio.sleep(0.02)


class Site:
    def __init__(
        self, client: aiohttp.ClientSession, fleet: Fleet, log: io.StringIO, app: Gateway, books: Books
    ) -> None:
        self.client, self.fleet, self._log = client, fleet, log
        self.app, self.books = app, books

    async def ask(self, path: str = "/api/generate", **changed: Any) -> tuple[int, Any, bytes]:
        async with self.client.post(path, json={**ASK, **changed}) as reply:
            return reply.status, reply.headers, await reply.read()

    async def metric(self, line: str) -> float:
        async with self.client.get("/metrics") as reply:
            rows = (await reply.text()).splitlines()
        return sum(float(row.rpartition(" ")[2]) for row in rows if row.startswith(line))

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = (json.loads(line) for line in self._log.getvalue().splitlines())
        return [line for line in lines if line["event"] == event]


@contextlib.asynccontextmanager
async def site(*engines: fake.Upstream, **changed: Any) -> AsyncIterator[Site]:
    """A gateway in this process before scripted engines, in whose order it asks them. changed: of its settings."""
    settings = GatewaySettings(
        cluster="faults",
        host="127.0.0.1",
        port=0,
        policy="round_robin",
        trusted_networks=("127.0.0.0/8",),
        scheduler="tcp://127.0.0.1:9",
        upstreams=tuple(Upstream(f"w{i}", e.url, ("fake", "placed"), 1, 0) for i, e in enumerate(engines, 1)),
        models={},
        **changed,
    )
    fleet, text = Fleet(settings), io.StringIO()
    log = Log(text)
    membership = Membership(settings.scheduler, None)
    cordons = Cordons(fleet, membership, CordonFile(None), log)
    listener = socket.create_server(("127.0.0.1", 0))
    async with (
        session(aiohttp.TCPConnector(limit=0)) as out,
        contextlib.aclosing(Wire()) as wire,
        HealthWatch(fleet, out, log) as health,
        Books(None) as books,
        Logins("faults", None, books.keys) as logins,
        TaskManager(None) as tasks,
    ):
        database, guard = Database(None), Guard("", settings.trusted_networks, (), logins.user)
        blobs = Blobs(None)
        app = Gateway(
            Surroundings(
                settings=settings,
                fleet=fleet,
                membership=membership,
                cordons=cordons,
                health=health,
                database=database,
                tasks=tasks,
                guard=guard,
                blobs=blobs,
                client=out,
                wire=wire,
                log=log,
                books=books,
                logins=logins,
                audit=Audit(None, log),
            )
        )
        config = uvicorn.Config(app, http="httptools", loop="none", ws="none", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listener]))
        try:
            await until(lambda: server.started and len(fleet.active()) == len(engines))
            base = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with aiohttp.ClientSession(base, timeout=aiohttp.ClientTimeout(total=PATIENCE)) as client:
                yield Site(client, fleet, text, app, books)
        finally:
            server.should_exit = True
            await serving
            database.close()


@pytest.mark.parametrize(
    "act", [Act.ERROR_500, Act.LOST_MODEL, Act.CLOSE, Act.EMPTY_THEN_CLOSE, Act.GARBAGE], ids=lambda a: a.name
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_fault_before_the_first_byte_is_never_seen(act: Act, stream: bool) -> None:
    async with fake.upstream(act, act) as bad, fake.upstream() as good, site(bad, good) as here:
        status, headers, body = await here.ask(stream=stream)
        assert status == 200
        assert headers["X-Cluster-Worker"] == "w2"
        assert body == fake.LINE + fake.LINE + fake.LAST
        assert await here.metric("gateway_failovers_total") == 1
        assert await here.metric("cluster_failed_tasks_total") == 0
        assert here.logged("failover")[0]["to"] == "w2"


@pytest.mark.parametrize("path", ["/api/generate", "/v1/completions", "/api/v1/generate"])
async def test_a_fault_that_no_client_saw_still_counts_against_its_worker(path: str) -> None:
    async with fake.upstream(Act.ERROR_500) as bad, fake.upstream() as good, site(bad, good) as here:
        assert (await here.ask(path, stream=True))[0] == 200
        assert await here.metric('worker_requests_total{outcome="error",worker="w1"}') == 1
        assert await here.metric('worker_requests_total{outcome="ok",worker="w2"}') == 1
        assert await here.metric('worker_response_time_seconds_count{worker="w2"}') == 1
        assert await here.metric('worker_time_to_first_token_seconds_count{worker="w2"}') == 1


@pytest.mark.parametrize("act", [Act.DIE_MIDWAY, Act.END_EARLY, Act.ERROR_LINE], ids=lambda a: a.name)
@pytest.mark.parametrize("path", ["/api/generate", "/api/v1/generate"])
async def test_a_broken_stream_counts_against_its_worker(path: str, act: Act) -> None:
    async with fake.upstream(*[act] * TRIES) as bad, site(bad) as here:
        await here.ask(path, stream=True)
        assert await here.metric('worker_requests_total{outcome="error",worker="w1"}') == TRIES
        assert await here.metric('worker_requests_total{outcome="ok",worker="w1"}') == 0


async def test_a_kept_connection_that_had_died_is_no_fault_of_the_worker() -> None:
    async with fake.upstream(Act.CLOSE) as only, site(only) as here:
        status, headers, _ = await here.ask()
        assert (status, headers["X-Cluster-Worker"]) == (200, "w1")


async def test_when_every_worker_fails_the_last_answer_is_told() -> None:
    async with fake.upstream(Act.ERROR_500) as one, fake.upstream(Act.ERROR_500) as two, site(one, two) as here:
        status, _, body = await here.ask()
        assert status == 500
        assert json.loads(body) == {"error": "out of memory"}
        assert await here.metric("cluster_failed_tasks_total") == 1


async def test_when_every_connection_breaks_the_client_is_told_to_come_again() -> None:
    async with fake.upstream(Act.CLOSE, Act.CLOSE) as only, site(only) as here:
        status, headers, body = await here.ask()
        assert status == 502
        assert headers["Retry-After"]
        assert "w1" in json.loads(body)["error"]


BREAKS = [Act.DIE_MIDWAY, Act.END_EARLY, Act.HALF_LINE, Act.ERROR_LINE]


@pytest.mark.parametrize("act", BREAKS, ids=lambda a: a.name)
async def test_a_stream_that_breaks_goes_on_at_another_worker(act: Act) -> None:
    async with fake.upstream(act) as bad, fake.upstream() as good, site(bad, good) as here:
        status, headers, body = await here.ask(options={"num_predict": 9, "num_ctx": 64}, keep_alive="5m")
        assert (status, headers["X-Cluster-Worker"]) == (200, "w1")
        lines = [json.loads(line) for line in body.splitlines()]
        assert [line["response"] for line in lines] == ["a", "a", "a", ""]
        assert body.startswith(fake.LINE)
        last = lines[-1]
        assert (last["done"], last["eval_count"], last["model"]) == (True, 3, "fake")
        asked = json.loads(good.asked[-1])
        assert (asked["raw"], asked["prompt"]) == (True, fake.RENDERED + "a")
        assert (asked["options"], asked["keep_alive"]) == ({"num_predict": 8, "num_ctx": 64}, "5m")
        assert await here.metric('gateway_failovers_total{moment="stream"}') == 1
        assert await here.metric('worker_requests_total{outcome="error",worker="w1"}') == 1
        assert await here.metric('worker_requests_total{outcome="ok",worker="w2"}') == 1
        assert await here.metric("cluster_failed_tasks_total") == 0
        assert here.logged("failover")[0]["moment"] == "stream"
        assert all(w.in_flight == 0 for w in here.fleet.workers.values())


async def test_openais_stream_goes_on_under_its_id_and_ends_as_it_should() -> None:
    async with fake.upstream(Act.DIE_MIDWAY) as bad, fake.upstream() as good, site(bad, good) as here:
        _, _, body = await here.ask("/v1/completions", stream=True, stream_options={"include_usage": True})
        *events, end = body.decode().rstrip().split("\n\n")
        told = [json.loads(event.removeprefix("data: ")) for event in events]
        assert end == "data: [DONE]"
        assert {(it["id"], it["object"], it["system_fingerprint"]) for it in told} == {("c1", "text_completion", "fp")}
        assert "".join(choice["text"] for it in told for choice in it["choices"]) == "aaa"
        assert told[-2]["choices"][0]["finish_reason"] == "stop"
        assert told[-1]["usage"]["completion_tokens"] == 3


async def test_a_stream_that_falls_silent_goes_on_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FLOOR", 0.2)
    async with fake.upstream(Act.FALL_SILENT) as mute, fake.upstream() as good, site(mute, good) as here:
        _, _, body = await here.ask()
        assert [json.loads(line)["response"] for line in body.splitlines()] == ["a", "a", "a", ""]
        await until(lambda: mute.left == 1)
        assert await here.metric('worker_stalls_total{worker="w1"}') == 1
        assert here.logged("stall")[0]["worker"] == "w1"
        assert here.fleet.workers["w1"].state == "active"


async def test_a_worker_that_fails_again_and_again_gets_nothing_for_a_while() -> None:
    async with fake.upstream(*[Act.ERROR_500] * 3) as bad, fake.upstream() as good, site(bad, good) as here:
        while not here.fleet.workers["w1"].reason:
            assert (await here.ask())[0] == 200
        assert here.fleet.workers["w1"].reason == "requests fail there: it answered 500"
        assert await here.metric('worker_breaker_open{worker="w1"}') == 1
        before = len(bad.asked)
        for _ in range(4):
            assert (await here.ask())[1]["X-Cluster-Worker"] == "w2"
        assert len(bad.asked) == before


async def test_where_every_worker_fails_all_are_asked_still() -> None:
    acts = [Act.ERROR_500] * 6
    async with fake.upstream(*acts) as one, fake.upstream(*acts) as two, site(one, two) as here:
        for _ in acts:
            assert (await here.ask())[0] == 500
        assert (await here.ask())[0] == 200


@pytest.mark.parametrize("act", [Act.DIE_MIDWAY, Act.END_EARLY], ids=lambda a: a.name)
async def test_a_stream_that_breaks_everywhere_ends_with_a_clear_line_in_ollamas_form(act: Act) -> None:
    async with fake.upstream(*[act] * TRIES) as bad, site(bad) as here:
        status, _, body = await here.ask()
        assert status == 200
        *told, last = body.splitlines()
        assert [json.loads(line)["response"] for line in told] == ["a"] * TRIES
        assert "broke off on worker w1" in json.loads(last)["error"]
        assert await here.metric("cluster_failed_tasks_total") == 1
        assert "broken stream" in here.logged("request")[-1]["error"]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"format": "json"}, "form is prescribed"),
        ({"images": ["aGk="]}, "images"),
        ({"logprobs": True}, "probabilities"),
    ],
)
async def test_what_cannot_be_resumed_breaks_off_and_says_why(changed: dict[str, Any], why: str) -> None:
    async with fake.upstream(Act.HALF_LINE) as bad, fake.upstream() as good, site(bad, good) as here:
        _, _, body = await here.ask(**changed)
        first, last = body.splitlines()
        assert first + b"\n" == fake.LINE
        assert why in json.loads(last)["error"]
        assert not good.asked


async def test_openais_and_the_native_form_of_a_broken_stream() -> None:
    async with fake.upstream(*[Act.DIE_MIDWAY] * 2 * TRIES) as bad, site(bad) as here:
        _, _, body = await here.ask("/v1/completions", stream=True)
        last = body.rstrip().splitlines()[-1]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "stream_broken"
        _, _, body = await here.ask("/api/v1/generate", stream=True)
        told = json.loads(body.splitlines()[-1])
        assert told["error"]["code"] == "stream_broken"
        assert told["request_id"]


async def test_the_engines_own_error_line_passes() -> None:
    async with fake.upstream(*[Act.ERROR_LINE] * 3 * TRIES) as bad, site(bad) as here:
        _, _, body = await here.ask()
        assert json.loads(body.splitlines()[-1]) == {"error": "the runner has stopped"}
        assert len(body.splitlines()) == 1 + TRIES
        _, _, body = await here.ask("/api/v1/generate", stream=True)
        assert json.loads(body.splitlines()[-1])["error"]["message"] == "the runner has stopped"
        status, _, body = await here.ask("/api/v1/generate")
        assert (status, json.loads(body)["error"]["code"]) == (502, "engine_error")


async def test_a_whole_native_answer_that_breaks_midway_goes_on_at_another_worker() -> None:
    async with fake.upstream(Act.DIE_MIDWAY) as bad, fake.upstream() as good, site(bad, good) as here:
        status, _, body = await here.ask("/api/v1/generate")
        answer = json.loads(body)
        assert (status, answer["worker"], answer["response"]) == (200, "w2", "aaa")


async def test_a_host_that_falls_silent_loses_its_requests_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TIMEOUT", 1.0)
    monkeypatch.setattr(health, "INTERVAL", 0.1)
    async with fake.upstream(Act.SILENT) as mute, fake.upstream() as good, site(mute, good) as here:
        asking = asyncio.create_task(here.ask())
        await until(lambda: mute.asked)
        mute.deaf = True
        status, headers, _ = await asking
        assert (status, headers["X-Cluster-Worker"]) == (200, "w2")
        assert here.fleet.workers["w1"].state == "down"
        assert "no answer" in here.fleet.workers["w1"].reason
        assert here.fleet.workers["w1"].in_flight == 0


async def test_a_client_that_leaves_closes_its_connection_to_the_engine() -> None:
    async with fake.upstream(Act.SILENT) as mute, site(mute) as here:
        asking = asyncio.create_task(here.ask())
        await until(lambda: mute.asked)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: mute.left == 1)
        assert here.fleet.workers["w1"].in_flight == 0
        await until(lambda: here.logged("request"))
        assert here.logged("request")[-1]["status"] == 499


async def test_a_placed_model_that_nobody_has_is_503_and_an_unknown_one_404() -> None:
    async with fake.upstream() as engine, site(engine) as here:
        status, headers, body = await here.ask(model="placed")
        assert status == 503
        assert headers["Retry-After"]
        assert "no healthy worker has model 'placed'" in json.loads(body)["error"]
        status, _, body = await here.ask(model="nothing")
        assert (status, json.loads(body)) == (404, {"error": "model 'nothing' not found"})
        status, _, body = await here.ask("/v1/completions", model="nothing")
        assert json.loads(body)["error"]["code"] == "model_not_found"
        assert not engine.asked


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake.upstream() as engine, site(engine) as here:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(66):
                yield b"x" * (1024 * 1024)

        with contextlib.suppress(aiohttp.ClientError):  # it may close while we still send
            async with here.client.post("/api/generate", data=endless()) as reply:
                assert reply.status == 413
        assert here.logged("request")[-1]["status"] == 413
        assert not engine.asked


async def test_a_page_of_another_origin_cannot_drive_the_cluster() -> None:
    async with fake.upstream() as engine, site(engine) as here:
        async with here.client.post("/api/generate", json=ASK, headers={"Origin": "https://evil.example"}) as reply:
            assert reply.status == 403
        async with here.client.get("/api/tags", headers={"Host": "evil.example"}) as reply:
            assert reply.status == 403
        assert not engine.asked
