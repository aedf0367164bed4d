"""The native API's generation: Ollama's answer with what the cluster knows about it.

A stream's lines pass as the engine wrote them; only the last is written anew. Whole answers are gathered from a
stream too, so that the time to the first token is known.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster_ai.engine.client import canonical
from cluster_ai.gateway.api.http import (
    JSON,
    Api,
    Header,
    Receive,
    Refusal,
    Send,
    encode,
    error_body,
    read_body,
    send_whole,
)
from cluster_ai.gateway.api.inference import DONE, until_gone
from cluster_ai.gateway.balancing import Wish
from cluster_ai.gateway.calls import Call
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.metering import Meter, usage_of
from cluster_ai.gateway.relay import LostError, Relay, Reply
from cluster_ai.gateway.trace import Trace

_ATTEMPTS = 2  # for a whole answer, of which the client has seen nothing when it breaks
_ERROR = b'{"error"'  # how Ollama's line begins when a stream fails
_NDJSON = (b"content-type", b"application/x-ndjson")


class GenerateRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"model": "smollm2", "prompt": "Why is the sky blue?", "stream": False, "options": {"temperature": 0}}
            ]
        },
    )

    model: str = Field(min_length=1, description="A model's name; without a tag, `latest` is meant.")
    prompt: str
    system: str | None = Field(None, description="In place of the model's own system prompt.")
    stream: bool = Field(False, description="Newline-delimited JSON, the last object with `done: true`.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Ollama's runtime options (`temperature`, `seed`, `num_predict`, ...); `num_ctx` is the cluster's.",
    )


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class GenerateReply(BaseModel):
    """A whole answer; also the last object of a stream, there with an empty response."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "smollm2:latest",
                    "response": "Because air scatters blue light most.",
                    "done": True,
                    "done_reason": "stop",
                    "worker": "gpu-worker-01",
                    "time_to_first_token": 0.041,
                    "tokens_per_second": 108.2,
                    "load_time": 0.012,
                    "total_time": 0.122,
                    "usage": {"prompt_tokens": 14, "completion_tokens": 9, "total_tokens": 23},
                    "request_id": "5f2d8a9be07c4431",
                }
            ]
        }
    )

    model: str
    response: str
    done: bool
    done_reason: str | None
    worker: str
    time_to_first_token: float = Field(description="Seconds from the request's arrival at the gateway.")
    tokens_per_second: float | None = Field(description="By the engine's clock, without prompt and loading.")
    load_time: float | None = Field(description="Seconds the engine spent on having the model in memory.")
    total_time: float = Field(description="Seconds at the gateway.")
    usage: Usage
    request_id: str


class Native:
    def __init__(self, fleet: Fleet, relay: Relay, meter: Meter) -> None:
        self._fleet, self._relay, self._meter = fleet, relay, meter

    async def generate(self, receive: Receive, send: Send, trace: Trace) -> None:
        """Answers the request, or raises Refusal before anything was sent, or ClientGone."""
        asked = _parse(await read_body(receive))
        call = _call(asked, self._fleet, trace.wish)
        trace.model = call.model
        self._fleet.must_know(call.model, call.asked)

        async def work() -> None:
            failed = False
            try:
                await (self._stream if asked.stream else self._whole)(call, send, trace)
            except (Refusal, LostError) as e:
                failed = isinstance(e, LostError) or e.status >= 500
                raise
            finally:
                self._meter.task(trace.elapsed(), failed=failed)

        await until_gone(receive, work)

    async def _whole(self, call: Call, send: Send, trace: Trace) -> None:
        for attempt in range(_ATTEMPTS):
            reply = await self._open(call, trace)
            try:
                lines = [line async for line in _lines(reply)]
                if not lines or not (DONE in lines[-1] or lines[-1].startswith(_ERROR)):
                    raise LostError("it ended before its end")
            except LostError:
                self._meter.faulted(reply.worker.name)
                if attempt + 1 == _ATTEMPTS:
                    raise
                self._meter.failover()
                continue
            finally:
                reply.close()
            break
        parsed = [_object(line) for line in lines]
        error = next((p["error"] for p in parsed if "error" in p), None)
        if error is not None:
            self._meter.faulted(reply.worker.name)
            raise Refusal(502, "engine_error", str(error))
        self._meter.served(reply.worker.name, reply.elapsed(), reply.waited)
        last = self._last(lines[-1], trace)
        last["response"] = "".join(str(p.get("response") or "") for p in parsed)
        await send_whole(send, 200, encode(last), [JSON, _named(trace)])

    async def _stream(self, call: Call, send: Send, trace: Trace) -> None:
        reply = await self._open(call, trace)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [_NDJSON, _named(trace)]})
            ended = False
            async for line in _lines(reply):
                sent = line
                if line.startswith(_ERROR):
                    trace.error = str(_object(line).get("error"))
                    sent, ended = _error_line("engine_error", trace.error, trace), True
                elif DONE in line:
                    sent, ended = encode(self._last(line, trace)), True
                await send({"type": "http.response.body", "body": sent + b"\n", "more_body": True})
            if not ended:
                raise LostError("it ended before its end")
            if trace.error:
                self._meter.faulted(reply.worker.name)
            else:
                self._meter.served(reply.worker.name, reply.elapsed(), reply.waited)
        except (LostError, asyncio.CancelledError) as e:
            if isinstance(e, LostError):
                self._meter.faulted(reply.worker.name)
            text = e.reason if isinstance(e, LostError) else "the gateway is shutting down"
            trace.error = f"broken stream: {text}"
            message = f"the answer broke off on worker {reply.worker.name}: {text}"
            await send({"type": "http.response.body", "body": _error_line("stream_broken", message, trace) + b"\n"})
            raise
        finally:
            reply.close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _open(self, call: Call, trace: Trace) -> Reply:
        reply = await self._relay.open(call)
        trace.worker, trace.status = reply.worker.name, reply.status
        if reply.status != 200:
            reply.close()
            text = _object(reply.first).get("error") or f"the engine answered {reply.status}"
            raise Refusal(reply.status, "engine_error", str(text))
        trace.first_byte = trace.elapsed()
        self._meter.first_token(call.model, trace.first_byte)
        return reply

    def _last(self, line: bytes, trace: Trace) -> dict[str, Any]:
        """The closing object, metered on the way."""
        said, usage = _object(line), usage_of(line)
        if usage is not None:
            trace.usage = usage
            self._meter.usage(trace.model, trace.worker, usage)
            self._fleet.measured(self._fleet.workers[trace.worker], trace.model, usage)
        tokens, prompt = (usage.tokens, usage.prompt_tokens) if usage is not None else (0, 0)
        speed = usage.tokens_per_second if usage is not None else None
        return GenerateReply(
            model=trace.model,
            response=str(said.get("response") or ""),
            done=True,
            done_reason=said.get("done_reason"),
            worker=trace.worker,
            time_to_first_token=round(trace.first_byte or trace.elapsed(), 6),
            tokens_per_second=round(speed, 2) if speed is not None else None,
            load_time=usage.load if usage is not None else None,
            total_time=round(trace.elapsed(), 6),
            usage=Usage(prompt_tokens=prompt, completion_tokens=tokens, total_tokens=prompt + tokens),
            request_id=trace.id,
        ).model_dump()


async def _lines(reply: Reply) -> AsyncIterator[bytes]:
    """Its lines without their ends, whatever pieces they come in."""
    rest = b""
    piece = reply.first
    while piece:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line:
                yield line
        piece = b"" if reply.done else await reply.next()
    if rest:
        yield rest


def _parse(body: bytes) -> GenerateRequest:
    if not body:
        raise Refusal(400, "missing_body", "missing request body")
    try:
        return GenerateRequest.model_validate_json(body)
    except ValidationError as e:
        told = (f"{'.'.join(str(p) for p in error['loc']) or 'body'}: {error['msg']}" for error in e.errors())
        raise Refusal(400, "invalid_request", "; ".join(told)) from e


def _call(asked: GenerateRequest, fleet: Fleet, wish: Wish) -> Call:
    model = canonical(asked.model)
    options = dict(asked.options)
    if model in fleet.contexts:
        options["num_ctx"] = fleet.contexts[model]
    body: dict[str, Any] = {"model": asked.model, "prompt": asked.prompt, "stream": True, "options": options}
    if asked.system is not None:
        body["system"] = asked.system
    return Call("/api/generate", model, asked.model, encode(body), whole=False, value=body, wish=wish)


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _error_line(code: str, message: str, trace: Trace) -> bytes:
    return encode(error_body(Api.NATIVE, Refusal(502, code, message), trace.id))


def _named(trace: Trace) -> Header:
    return (b"x-cluster-worker", trace.worker.encode())
