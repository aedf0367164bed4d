"""The embedded engine with llama.cpp and SmolLM2, over HTTP, as the gateway and Ollama's clients see it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import ollama
import pytest

from cluster_ai.local.machine import look
from tests.rig.processes import PATIENCE

pytestmark = pytest.mark.integration

MODEL = "smollm2:135m"
HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """Its address. One slot, so that a slot which isn't freed shows."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    model = look({}).model
    command = [sys.executable, "-m", "cluster_ai.engine.embedded", "--port", str(port), "--model", f"{MODEL}={model}"]
    with subprocess.Popen([*command, "--parallel", "1", "--context", "512"]) as process:
        try:
            wait_until_it_listens(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0


def wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@pytest.fixture
async def session(engine: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(engine, timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
        yield session


async def post(session: aiohttp.ClientSession, path: str, body: Any) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post(path, data=data) as response:
        return response.status, await response.json()


async def lines(session: aiohttp.ClientSession, path: str, body: Any) -> list[Any]:
    async with session.post(path, json=body) as response:
        assert response.headers["Content-Type"] == "application/x-ndjson"
        return [json.loads(line) async for line in response.content]


async def test_a_request_waits_for_the_model_and_then_streams_its_answer(session: aiohttp.ClientSession) -> None:
    said = await lines(session, "/api/chat", {"model": MODEL, "messages": HELLO, "options": {"num_predict": 8}})
    assert [line["done"] for line in said] == [False] * (len(said) - 1) + [True]
    assert "".join(line["message"]["content"] for line in said).strip()
    last = said[-1]
    assert (last["done_reason"], last["eval_count"]) == ("length", 8)
    assert last["total_duration"] >= last["eval_duration"] > 0
    assert last["prompt_eval_count"] > 0


async def test_the_same_seed_gives_the_same_text_streamed_or_not(session: aiohttp.ClientSession) -> None:
    options = {"temperature": 0.9, "seed": 7, "num_predict": 12}
    body = {"model": MODEL, "prompt": "A list of animals:", "raw": True, "options": options}
    status, whole = await post(session, "/api/generate", {**body, "stream": False})
    assert status == 200
    assert "".join(line["response"] for line in await lines(session, "/api/generate", body)) == whole["response"]


async def test_a_stop_word_ends_the_answer_before_it(session: aiohttp.ClientSession) -> None:
    options = {"temperature": 0, "num_predict": 40, "stop": ["5"]}
    body = {"model": MODEL, "prompt": "1, 2, 3, 4,", "raw": True, "stream": False, "options": options}
    _, answer = await post(session, "/api/generate", body)
    assert answer["done_reason"] == "stop"
    assert "5" not in answer["response"]


async def test_a_system_prompt_reaches_the_model(session: aiohttp.ClientSession) -> None:
    body = {"model": MODEL, "prompt": "Hi", "stream": False, "options": {"num_predict": 1}}
    _, without = await post(session, "/api/generate", {**body, "system": "Hi."})
    _, with_long = await post(session, "/api/generate", {**body, "system": "You speak like a pirate of the old days."})
    assert with_long["prompt_eval_count"] > without["prompt_eval_count"]


async def test_a_schema_constrains_the_answer(session: aiohttp.ClientSession) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    schema |= {"additionalProperties": False}
    body = {"model": MODEL, "messages": HELLO, "format": schema, "stream": False}
    _, answer = await post(session, "/api/chat", body | {"options": {"temperature": 0, "num_predict": 60}})
    assert isinstance(json.loads(answer["message"]["content"])["age"], int)


async def test_a_conversation_that_outgrows_the_context_loses_its_oldest_turns(session: aiohttp.ClientSession) -> None:
    turns = [{"role": "user", "content": f"This is remark number {n}, of many."} for n in range(80)]
    body = {"model": MODEL, "messages": turns, "stream": False, "options": {"num_predict": 2}}
    status, answer = await post(session, "/api/chat", body)
    assert status == 200
    assert 256 < answer["prompt_eval_count"] < 512


async def test_a_single_prompt_that_outgrows_the_context_is_refused(session: aiohttp.ClientSession) -> None:
    status, answer = await post(session, "/api/generate", {"model": MODEL, "prompt": "word " * 1000})
    assert status == 400
    assert "the context only 512" in answer["error"]


async def test_a_client_that_leaves_frees_the_slot(session: aiohttp.ClientSession) -> None:
    """The only slot; an answer that went on would take seconds more."""
    body = {"model": MODEL, "prompt": "1 2 3 4 5 6", "raw": True, "options": {"num_predict": 450, "temperature": 0}}
    async with session.post("/api/generate", json=body) as response:
        await response.content.readline()
        response.close()
    began = time.monotonic()
    status, answer = await post(
        session, "/api/generate", {**body, "stream": False, "options": {"num_predict": 1, "temperature": 0}}
    )
    assert (status, answer["eval_count"]) == (200, 1)
    full = await _duration(session, {**body, "stream": False})
    assert time.monotonic() - began - full < full


async def _duration(session: aiohttp.ClientSession, body: Any) -> float:
    began = time.monotonic()
    await post(session, "/api/generate", body)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"model": "nope", "messages": HELLO}, 404, "model 'nope' not found"),
        ({"messages": HELLO}, 400, "model is required"),
        (b"{bad", 400, "invalid JSON"),
        (b"", 400, "missing request body"),
        ({"model": MODEL, "messages": HELLO, "tools": [{}]}, 400, "does not support tools"),
    ],
)
async def test_a_bad_request_gets_its_status_and_a_reason(
    session: aiohttp.ClientSession, body: Any, status: int, error: str
) -> None:
    got, answer = await post(session, "/api/chat", body)
    assert got == status
    assert error in answer["error"]


async def test_models_are_told_from_their_file(session: aiohttp.ClientSession) -> None:
    async with session.get("/api/tags") as response:
        (entry,) = (await response.json())["models"]
    assert (entry["name"], entry["details"]["parameter_size"]) == (MODEL, "134.52M")
    assert entry["details"]["quantization_level"] == "Q4_1"
    _, shown = await post(session, "/api/show", {"model": MODEL})
    assert shown["model_info"]["llama.context_length"] == 8192
    async with session.get("/api/ps") as response:
        assert [m["context_length"] for m in (await response.json())["models"]] == [512]


async def test_ollamas_own_client_works(engine: str, session: aiohttp.ClientSession) -> None:
    async with ollama.AsyncClient(engine) as client:
        answer = await client.chat(MODEL, messages=HELLO, options={"num_predict": 4})
        assert answer.message.content
        assert [m.model for m in (await client.list()).models] == [MODEL]
        with pytest.raises(ollama.ResponseError, match="model 'nope' not found"):
            await client.generate("nope", "x")


async def test_openais_chat_passes_through(session: aiohttp.ClientSession) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 3}
    status, answer = await post(session, "/v1/chat/completions", body)
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 3
