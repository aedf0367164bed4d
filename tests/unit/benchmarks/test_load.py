"""The load against a real server of aiohttp's that answers rightly, wrongly, or breaks off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from benchmarks.load import PROMPTS, SHORT, STREAMS, Kind, Load, WrongError, difference, read_ollama, read_openai
from benchmarks.outcomes import Sample

CHAT, OPENAI = STREAMS


class Server:
    """Answers every prompt with its words in capitals; `fault` says what goes wrong instead."""

    def __init__(self) -> None:
        self.fault = ""
        self.url = ""

    async def generate(self, request: web.Request) -> web.Response:
        if self.fault == "busy":
            return web.Response(status=503, text="nobody is free")
        text = "other" if self.fault == "differs" else (await request.json())["prompt"].upper()
        return web.json_response({"response": text, "done": True}, headers={"X-Cluster-Worker": "h2"})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        openai = request.path.startswith("/v1/")
        prompt = (await request.json())["messages"][0]["content"]
        response = web.StreamResponse(headers={"X-Cluster-Worker": "h3"})
        await response.prepare(request)

        async def say(said: object) -> None:
            line = json.dumps(said).encode()
            await response.write(b"data: " + line + b"\n\n" if openai else line + b"\n")

        for word in prompt.upper().split():
            await say({"choices": [{"delta": {"content": word}}]} if openai else {"message": {"content": word}})
        if self.fault == "error line":
            await say({"error": {"message": "the worker was lost"}} if openai else {"error": "the worker was lost"})
        elif self.fault == "cut":
            assert request.transport
            request.transport.abort()
        elif self.fault != "no end":
            await (response.write(b"data: [DONE]\n\n") if openai else say({"message": {"content": ""}, "done": True}))
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_post("/api/generate", made.generate)
    app.router.add_post("/api/chat", made.stream)
    app.router.add_post("/v1/chat/completions", made.stream)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def load(server: Server) -> AsyncIterator[Load]:
    async with aiohttp.ClientSession(server.url) as session:
        made = Load(session, "m", {})
        await made.learn()
        yield made


async def test_right_answers_are_learnt_of_every_prompt_in_every_way_and_then_found_again(load: Load) -> None:
    assert len(load.right) == 3 * len(PROMPTS)
    for kind in (SHORT, *STREAMS):
        it = await load.sample(kind, PROMPTS[0])
        assert (it.outcome, it.detail) == ("ok", "")
        assert it.worker == ("h2" if kind is SHORT else "h3")
        assert it.first is not None


@pytest.mark.parametrize(("fault", "why"), [("busy", "status 503"), ("differs", "differs at 0")])
async def test_a_short_answer_that_is_refused_or_another_one_has_failed(
    server: Server, load: Load, fault: str, why: str
) -> None:
    server.fault = fault
    it = await load.sample(SHORT, PROMPTS[0])
    assert it.outcome == "failed"
    assert why in it.detail


@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    ("fault", "why"),
    [("error line", "the worker was lost"), ("cut", "Error"), ("no end", "it ended before its end")],
)
async def test_a_stream_without_its_end_or_with_an_error_is_broken(
    server: Server, load: Load, kind: Kind, fault: str, why: str
) -> None:
    server.fault = fault
    it = await load.sample(kind, PROMPTS[0])
    assert it.outcome == "broken"
    assert why in it.detail


async def test_nobody_there_is_a_failed_stream_not_a_broken_one(load: Load) -> None:
    async with aiohttp.ClientSession("http://127.0.0.1:9") as session:
        it = await Load(session, "m", load.right).sample(CHAT, PROMPTS[0])
    assert it.outcome == "failed"


async def test_clients_go_on_until_they_are_told_to_stop_and_finish_what_they_began(load: Load) -> None:
    stop, seen = asyncio.Event(), list[Sample]()

    def record(sample: Sample) -> None:
        seen.append(sample)
        if {it.kind for it in seen} == {"short", "chat", "openai"}:
            stop.set()

    await load.run(1, 2, 200.0, stop, record)
    assert {it.outcome for it in seen} == {"ok"}


@pytest.mark.parametrize(
    ("line", "text", "end"),
    [
        (b'{"response":"a","done":false}', "a", False),
        (b'{"message":{"content":"b"},"done":false}', "b", False),
        (b'{"message":{"content":""},"done":true}', "", True),
    ],
)
def test_a_line_of_ollamas_has_text_or_is_the_end(line: bytes, text: str, end: bool) -> None:
    assert read_ollama(line) == (text, end)


def test_a_line_of_openais_has_text_or_is_the_end() -> None:
    assert read_openai(b'data: {"choices":[{"delta":{"content":"a"}}]}') == ("a", False)
    assert read_openai(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}') == ("", False)
    assert read_openai(b"data: [DONE]") == ("", True)


@pytest.mark.parametrize("line", [b"no json", b"[1]", b'{"error":"x"}'])
def test_a_line_that_is_no_answer_is_an_error(line: bytes) -> None:
    with pytest.raises(WrongError):
        read_ollama(line)


def test_a_difference_is_shown_where_it_begins() -> None:
    assert difference("abcd", "abxd") == "differs at 2: 'xd', not 'cd'"
    assert difference("abcd", "ab") == "differs at 2: '', not 'cd'"
