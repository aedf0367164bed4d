"""The routes that reach an engine: admit, choose a worker, relay, meter. The engine's bytes pass untouched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cluster_ai.gateway.admission.gate import Gate
from cluster_ai.gateway.api import anthropic, openai
from cluster_ai.gateway.api.http import (
    JSON,
    Api,
    ClientGone,
    Header,
    Receive,
    Refusal,
    Send,
    encode,
    error_body,
    read_body,
    send_whole,
)
from cluster_ai.gateway.api.sse import Events
from cluster_ai.gateway.calls import Call, Route, admit
from cluster_ai.gateway.context import Contexts
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.metering import Meter, Tail, Usage, usage_of
from cluster_ai.gateway.models.unload import unload, unloads
from cluster_ai.gateway.relay import LostError, Relay, Reply
from cluster_ai.gateway.trace import Trace
from cluster_ai.settings import LimitSettings

ROUTES = (
    Route("/api/chat", Api.OLLAMA, True),
    Route("/api/generate", Api.OLLAMA, True),
    Route("/api/embed", Api.OLLAMA, None),
    Route("/api/embeddings", Api.OLLAMA, None),
    Route("/api/show", Api.OLLAMA, None, task=False),
    Route("/v1/chat/completions", Api.OPENAI, False),
    Route("/v1/completions", Api.OPENAI, False),
    Route("/v1/embeddings", Api.OPENAI, None),
    Route("/v1/responses", Api.OPENAI, False),
    Route(anthropic.PREFIX, Api.ANTHROPIC, False),
)

CLIENT_LEFT = 499
DONE = b'"done":true'  # in the last line of a whole stream of Ollama's
ERROR = b'"error":'  # in the last line of one that the engine gave up


async def until_gone(
    receive: Receive, work: Callable[[], Awaitable[None]], trace: Trace | None = None, limit: float | None = None
) -> None:
    """Does the work, and stops it when the client leaves, so that the engine stops too. Raises ClientGone.

    limit: seconds that the traced request may take in all; then it is stopped too, by Refusal (504). The whole body
    must have been read before.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False
    timer = None
    if trace is not None and limit is not None:
        timer = asyncio.get_running_loop().call_later(limit - trace.elapsed(), _end, task, trace, limit)

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch(), name="client-watch")
    try:
        await work()
    except asyncio.CancelledError:
        if not gone and not (trace is not None and trace.late):
            raise
        task.uncancel()
        if not gone and trace is not None:
            raise Refusal(504, "request_timeout", trace.late) from None
        raise ClientGone from None
    finally:
        if timer is not None:
            timer.cancel()
        watcher.cancel()


def _end(task: asyncio.Task[object], trace: Trace, limit: float) -> None:
    trace.late = f"the request took longer than the {limit:g} s that one may take"
    task.cancel()


class Inference:
    def __init__(
        self, fleet: Fleet, relay: Relay, contexts: Contexts, meter: Meter, gate: Gate, limits: LimitSettings
    ) -> None:
        self._fleet, self._relay, self._contexts, self._meter = fleet, relay, contexts, meter
        self._gate, self._limits = gate, limits

    async def handle(self, route: Route, receive: Receive, send: Send, trace: Trace) -> None:
        """Answers the request, or raises Refusal before anything was sent, or ClientGone."""
        call = admit(route, await read_body(receive, self._limits.max_body), self._fleet.contexts, trace.wish)
        trace.model = call.model
        self._fleet.must_know(call.model, call.asked)
        trace.user.must_have(call.model)
        if unloads(call):
            await until_gone(receive, lambda: unload(call, self._fleet, self._relay, send, trace))
            return
        limit = self._limits.request_timeout
        await until_gone(receive, lambda: self._run(route, call, send, trace), trace, limit)

    async def _run(self, route: Route, call: Call, send: Send, trace: Trace) -> None:
        if not route.task:
            await self._answer(route, call, send, trace)
            return
        failed = False
        try:
            async with self._gate.admitted(call, trace):
                await self._answer(route, call, send, trace)
            failed = trace.status >= 500
        except (Refusal, LostError) as e:
            failed = isinstance(e, LostError) or e.status >= 500
            raise
        finally:
            self._meter.task(trace.elapsed(), failed=failed, exemplar=trace.exemplar)

    async def _answer(self, route: Route, call: Call, send: Send, trace: Trace) -> None:
        reply = await (self._contexts.open(call, trace) if route.task else self._relay.open(call))
        trace.worker, trace.status = reply.worker.name, reply.status
        try:
            await self._send(route, call, reply, send, trace)
        except LostError:
            self._meter.faulted(reply.worker.name)
            raise
        finally:
            reply.close()

    async def _send(self, route: Route, call: Call, reply: Reply, send: Send, trace: Trace) -> None:
        headers: list[Header] = [
            (b"content-type", reply.content_type),
            (b"x-cluster-worker", reply.worker.name.encode()),
        ]
        if reply.done and (call.whole or reply.status != 200 or _ended(route, reply.first)):
            body = reply.first
            if reply.status >= 400 and route.api is Api.OPENAI:
                body, headers[0] = openai.retold(reply.status, body), JSON
            elif not call.whole and _hides_usage(route, call):
                body = openai.WithoutUsage().feed(body)
            await send_whole(send, reply.status, body, headers)
            line = reply.first
        else:
            trace.first_byte = trace.elapsed()
            self._meter.first_token(call.model, trace.worker, trace.first_byte, trace.exemplar)
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            line = await self._stream(route, call, reply, send, trace)
            trace.worker = reply.worker.name  # another one, where the answer went on elsewhere
        usage = usage_of(line) if route.task and reply.status == 200 else None
        if usage is not None:
            trace.usage = usage
            streamed = None if call.whole else reply.elapsed() - reply.waited
            self._meter.usage(call.model, reply.worker.name, usage, streamed)
            self._fleet.measured(reply.worker, call.model, usage)
        if route.task and reply.status == 200:
            self._count(route, call, reply, line)

    def _count(self, route: Route, call: Call, reply: Reply, line: bytes) -> None:
        if route.api is Api.OLLAMA and DONE not in line and ERROR in line:
            self._meter.faulted(reply.worker.name)
        else:
            self._meter.served(reply.worker.name, reply.elapsed(), None if call.whole else reply.waited)

    async def _stream(self, route: Route, call: Call, reply: Reply, send: Send, trace: Trace) -> bytes:
        """Passes the pieces on; returns the last line."""
        tail = Tail() if route.api is Api.OLLAMA else Events()
        hidden = openai.WithoutUsage() if _hides_usage(route, call) else None
        piece, pieces = reply.first, 0
        try:
            while piece:
                shown = hidden.feed(piece) if hidden is not None else piece
                if shown:
                    await send({"type": "http.response.body", "body": shown, "more_body": True})
                tail.feed(piece)
                pieces += 1  # a token each, more or less: what an answer took whose end isn't awaited
                piece = await reply.next()
            if not _ended(route, tail.line):
                raise LostError("it ended before its end")
        except (LostError, asyncio.CancelledError) as e:
            text = e.reason if isinstance(e, LostError) else trace.late or "the gateway is shutting down"
            trace.usage = Usage(0, pieces, None, None, None)
            trace.error = f"broken stream: {text}"
            refusal = Refusal(502, "stream_broken", f"the answer broke off on worker {reply.worker.name}: {text}")
            await send({"type": "http.response.body", "body": broken(route.api, refusal, tail, trace.id)})
            raise
        trace.usage = Usage(0, pieces, None, None, None)  # unless its end tells
        rest = hidden.end() if hidden is not None else b""
        await send({"type": "http.response.body", "body": rest, "more_body": False})
        return tail.line


def _hides_usage(route: Route, call: Call) -> bool:
    """Whether a stream tells of its tokens only because the gateway asked."""
    return route.path == openai.CHAT and not openai.wants_usage(call.value)


def _ended(route: Route, line: bytes) -> bool:
    """Whether a stream's last line is its end."""
    match route.api:
        case Api.OPENAI:
            return openai.ends(line)
        case Api.ANTHROPIC:
            return anthropic.ends(line)
        case _:
            return DONE in line or ERROR in line


def broken(api: Api, refusal: Refusal, tail: Tail | Events, request_id: str) -> bytes:
    """The last line of a stream that ends in error, in the API's form, on a line of its own."""
    error = encode(error_body(api, refusal, request_id))
    whole = tail.at_line_end()
    match api:
        case Api.OPENAI:
            return (b"" if whole else b"\n\n") + b"data: " + error + b"\n\n"
        case Api.ANTHROPIC:
            return (b"" if whole else b"\n\n") + b"event: error\ndata: " + error + b"\n\n"
        case _:
            return (b"" if whole else b"\n") + error + b"\n"
