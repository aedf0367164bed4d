"""Real engines that die under streams, and clients that leave: what is seen, and what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cluster_ai.settings import LimitSettings, Upstream
from tests.rig import cluster as rig
from tests.rig.cluster import MODEL, TOKEN
from tests.rig.processes import PATIENCE, Process, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(rig.ollama() is None, reason="needs Ollama, whose process is killed"),
]

SLOTS = 8
CONTEXT = 512
LONE = "lone"  # on w3 alone, which has one slot
TOKENS, LONGER = 16, 48
SUBJECTS = ("rivers", "birds", "bread", "ships", "trees", "music", "rain", "horses", "clocks", "salt")
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
CHECKED = '"/api/ps"'  # in the engine's log, every two seconds
ENDLESS = "one, two, three, " * 12  # of which the model finds no end


@dataclass
class Site:
    url: str
    engines: list[Process]
    urls: list[str]
    folder: Path

    def metric(self, start: str) -> float:
        page = rig.fetch(urllib.request.Request(f"{self.url}/metrics", headers=HEADERS))[1].decode()
        return sum(float(row.rpartition(" ")[2]) for row in page.splitlines() if row.startswith(start))

    def state(self, worker: str) -> str:
        told = rig.get(f"{self.url}/api/v1/cluster/status", token=TOKEN)
        return str(next(w["state"] for w in told["workers"] if w["name"] == worker))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("failover")
    head = rig.authority().credentials(folder / "head", "head", "head", token=TOKEN)
    with ExitStack() as stack:
        both = [
            stack.enter_context(rig.ollama_engine(folder / f"w{i}", parallel=SLOTS, context=CONTEXT)) for i in (1, 2)
        ]
        lone = stack.enter_context(rig.ollama_engine(folder / "w3", model=LONE))
        upstreams = tuple(Upstream(f"w{i}", url, (MODEL,), SLOTS, 0) for i, (url, _) in enumerate(both, 1))
        told = rig.gateway_settings(
            upstreams=(*upstreams, Upstream("w3", lone[0], (LONE,), 1, 0)),
            models={MODEL: CONTEXT},
            policy="round_robin",
            limits=LimitSettings(max_wait=480),
        )
        url, _ = stack.enter_context(rig.gateway(folder / "gateway", told, head, workers=3))
        engines = [*both, lone]
        yield Site(url, [process for _, process in engines], [u for u, _ in engines], folder)


@dataclass
class Answer:
    """worker: who began it."""

    worker: str = ""
    pieces: list[str] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def counts(self) -> tuple[int, int]:
        if "usage" in self.last:
            return self.last["usage"]["prompt_tokens"], self.last["usage"]["completion_tokens"]
        return self.last["prompt_eval_count"], self.last["eval_count"]


def asked(api: str, subject: str, tokens: int = TOKENS) -> tuple[str, dict[str, Any]]:
    """The same question in five ways: the model is to read the same."""
    prompt = f"Tell me about {subject}."
    messages = [{"role": "user", "content": prompt}]
    options = {"temperature": 0, "seed": 1, "num_predict": tokens}
    match api:
        case "chat":
            return "/api/chat", {"model": MODEL, "messages": messages, "options": options}
        case "generate":
            return "/api/generate", {"model": MODEL, "prompt": prompt, "options": options}
        case "messages":
            told = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": tokens, "stream": True}
            return "/v1/messages", told
        case "completions":
            told = {"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": tokens, "stream": True}
            return "/v1/completions", told
    body = {"model": MODEL, "messages": messages, "temperature": 0, "seed": 1, "max_tokens": tokens, "stream": True}
    return "/v1/chat/completions", {**body, "stream_options": {"include_usage": True}}


async def stream(client: aiohttp.ClientSession, answer: Answer, path: str, body: dict[str, Any]) -> Answer:
    async with client.post(path, json=body) as reply:
        assert reply.status == 200, await reply.text()
        answer.worker = reply.headers["X-Cluster-Worker"]
        async for line in reply.content:
            text = line.decode().removeprefix("data: ").strip()
            if not text.startswith("{"):
                continue
            told = json.loads(text)
            answer.error = str(told.get("error") or "")
            choices = told.get("choices") or []
            said = told.get("response") or (told.get("message") or {}).get("content") or ""
            said += "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)
            said += (told.get("delta") or {}).get("text") or ""
            if said:
                answer.pieces.append(said)
            if told.get("done") or told.get("usage"):
                answer.last = told
    return answer


@pytest.fixture
async def client(site: Site) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=500)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(site.url, headers=HEADERS, timeout=timeout, connector=connector) as session:
        yield session


async def seen(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (it becomes true in another process)
            await asyncio.sleep(0.02)


async def test_an_engine_that_is_killed_under_50_streams_breaks_none(site: Site, client: aiohttp.ClientSession) -> None:
    undisturbed = await asyncio.gather(
        *(stream(client, Answer(), *asked("chat", s)) for s in SUBJECTS), stream(client, Answer(), *asked("", "salt"))
    )
    answers = [Answer() for _ in range(50)]
    ways = [(("chat", "generate", "openai")[i % 3], SUBJECTS[i % len(SUBJECTS)]) for i in range(50)]
    running = [
        asyncio.create_task(stream(client, answer, *asked(*way))) for answer, way in zip(answers, ways, strict=True)
    ]

    def midway() -> int:
        return sum(a.worker == "w1" and 3 <= len(a.pieces) < TOKENS - 4 for a in answers)

    await seen(lambda: midway() >= 3 or all(t.done() for t in running))
    broken = midway()
    site.engines[0].stop(kill=True)
    await asyncio.gather(*running)

    assert broken
    for answer, (api, subject) in zip(answers, ways, strict=True):
        expected = undisturbed[SUBJECTS.index(subject)]
        assert not answer.error
        assert answer.text == expected.text, (api, subject)
        assert answer.counts == expected.counts, (api, subject)
    assert site.metric('gateway_failovers_total{moment="stream"}') >= broken
    assert site.metric("cluster_failed_tasks_total") == 0


async def test_an_engine_that_is_back_is_asked_again_and_a_runner_that_dies_is_not_seen(
    site: Site, client: aiohttp.ClientSession
) -> None:
    site.engines[0].stop(kill=True)
    await asyncio.to_thread(until, lambda: site.state("w1") == "down")
    port = int(site.urls[0].rpartition(":")[2])
    with rig.ollama_engine(site.folder / "w1", parallel=SLOTS, context=CONTEXT, port=port) as (_, engine):
        await asyncio.to_thread(until, lambda: site.state("w1") == "active")
        expected = [await stream(client, Answer(), *asked("chat", "birds", LONGER))]
        while {a.worker for a in expected} != {"w1", "w2"}:  # each has it in memory then
            expected.append(await stream(client, Answer(), *asked("chat", "birds", LONGER)))
        before = site.metric('gateway_failovers_total{moment="stream"}')
        apis = [api for api in ("chat", "openai", "messages", "completions") for _ in ("w1", "w2")]
        runners = _children(engine.popen.pid)

        def midway() -> bool:
            return any(a.worker == "w1" and 2 <= len(a.pieces) < LONGER // 2 for a in answers)

        async with asyncio.timeout(2 * PATIENCE):
            while True:  # w1, taken in gently, has not always some of them
                answers = [Answer() for _ in apis]
                running = [
                    asyncio.create_task(stream(client, answer, *asked(api, "birds", LONGER)))
                    for answer, api in zip(answers, apis, strict=True)
                ]
                await seen(lambda: midway() or all(t.done() for t in running))  # noqa: B023 (called in this round)
                if midway():
                    break
                await asyncio.gather(*running)
        for runner in runners:
            os.kill(runner, signal.SIGKILL)
        await asyncio.gather(*running)
        assert [a.text for a in answers] == [expected[0].text] * len(apis)
        assert not any(a.error for a in answers)
        assert site.metric('gateway_failovers_total{moment="stream"}') > before


def _children(pid: int) -> list[int]:
    told = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(child) for child in told.split()]


def _begun(url: str, body: dict[str, Any]) -> socket.socket:
    """A request that was sent; nothing of its answer is read."""
    host, _, port = url.removeprefix("http://").partition(":")
    text = json.dumps(body).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n"
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
    return connection


def _endless() -> dict[str, Any]:
    options = {"temperature": 0, "repeat_penalty": 1, "num_predict": 100_000, "num_ctx": rig.CONTEXT}
    return {"model": LONE, "prompt": ENDLESS, "raw": True, "options": options}


def _one_token(engine: str) -> bool:
    """Whether its only slot is free. The endless answer takes minutes, whatever the machine."""
    body = {**_endless(), "stream": False, "options": {"num_predict": 1, "num_ctx": rig.CONTEXT}}
    request = urllib.request.Request(f"{engine}/api/generate", json.dumps(body).encode())
    return bool(json.loads(rig.fetch(request, timeout=PATIENCE)[1])["done"])


def test_a_client_that_leaves_amid_its_answer_frees_its_slot(site: Site) -> None:
    with _begun(site.url, _endless()) as connection:
        received = b""
        while received.count(b'"done":false') < 2:
            piece = connection.recv(4096)
            assert piece
            received += piece
    assert _one_token(site.urls[2])
    until(lambda: site.metric('gateway_in_flight{worker="w3"}') == 0)


def test_a_client_that_leaves_before_its_first_token_leaves_the_queue(site: Site) -> None:
    engine, log = site.urls[2], site.engines[2]
    with _begun(engine, _endless()) as ahead:
        assert b"200" in ahead.recv(4096)  # the slot is taken
        with _begun(site.url, _endless()):
            until(lambda: site.metric('gateway_in_flight{worker="w3"}') == 1)
            checks = log.text().count(CHECKED)
            until(lambda: log.text().count(CHECKED) >= checks + 2)  # so the engine has seen that request too
        until(lambda: site.metric('gateway_in_flight{worker="w3"}') == 0)
    assert _one_token(engine)
