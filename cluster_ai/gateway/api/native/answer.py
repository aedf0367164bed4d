"""How generate and chat answer: Ollama's answer with what the cluster knows about it.

A stream's lines pass as the engine wrote them; only the last is written anew. Whole answers are gathered from a
stream too, so that the time to the first token is known.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Protocol, TypeVar

from pydantic import BaseModel, Field, ValidationError

from cluster_ai.engine.client import canonical
from cluster_ai.gateway import parsing
from cluster_ai.gateway.admission.gate import Gate
from cluster_ai.gateway.api.http import (
    JSON,
    Api,
    Header,
    Receive,
    Refusal,
    Send,
    encode,
    error_body,
    send_whole,
)
from cluster_ai.gateway.api.inference import DONE, until_gone
from cluster_ai.gateway.api.native.body import worded
from cluster_ai.gateway.api.native.routing import Decision, Mode, Seat, as_asked, should_distribute, tokens_of
from cluster_ai.gateway.balancing import Wish
from cluster_ai.gateway.calls import Call
from cluster_ai.gateway.context import Contexts
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.metering import Meter, Usage, usage_of
from cluster_ai.gateway.relay import LostError, Reply
from cluster_ai.gateway.trace import Trace
from cluster_ai.settings import LimitSettings

_ATTEMPTS = 2  # for a whole answer, of which the client has seen nothing when it breaks
_ERROR = b'{"error"'  # how Ollama's line begins when a stream fails
_NDJSON = (b"content-type", b"application/x-ndjson")

Asked = TypeVar("Asked", bound=BaseModel)
AskedMode = Literal["auto", "local", "distributed"]
OPTIONS = "Ollama's runtime options (`temperature`, `seed`, `num_predict`, ...); `num_ctx` is the cluster's."
FORMAT = "`json`, or a JSON schema that the answer is to follow."
STREAM = "Newline-delimited JSON, the last object with `done: true`."
MODE = (
    "Who is to answer: the engine on the gateway's own host (`local`), any worker by the gateway's policy "
    "(`distributed`), or as fits the prompt and the load (`auto`). The answer's `routing` says what came of it."
)


class TokenUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Routing(BaseModel):
    mode: Mode
    reason: str
    worker: str


class Figures(BaseModel):
    """What the cluster knows of an answer."""

    model: str
    done: bool
    done_reason: str | None
    worker: str
    routing: Routing
    time_to_first_token: float = Field(description="Seconds from the request's arrival at the gateway.")
    tokens_per_second: float | None = Field(description="By the engine's clock, without prompt and loading.")
    load_time: float | None = Field(description="Seconds the engine spent on having the model in memory.")
    total_time: float = Field(description="Seconds at the gateway.")
    usage: TokenUsage
    request_id: str


EXAMPLE: dict[str, Any] = {
    "model": "smollm2:latest",
    "done": True,
    "done_reason": "stop",
    "worker": "gpu-worker-01",
    "routing": {
        "mode": "distributed",
        "reason": "no engine on the gateway's host has the model",
        "worker": "gpu-worker-01",
    },
    "time_to_first_token": 0.041,
    "tokens_per_second": 108.2,
    "load_time": 0.012,
    "total_time": 0.122,
    "usage": {"prompt_tokens": 14, "completion_tokens": 9, "total_tokens": 23},
    "request_id": "5f2d8a9be07c4431",
}


class Job(Protocol):
    """A prompt on its way. body: for the engine, less its options; length: characters of the prompt."""

    @property
    def path(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def body(self) -> dict[str, Any]: ...
    @property
    def options(self) -> dict[str, Any]: ...
    @property
    def length(self) -> int: ...
    @property
    def streams(self) -> bool: ...
    @property
    def mode(self) -> AskedMode: ...
    @property
    def keeps(self) -> bool:
        """Whether keep wants to be told."""
        ...

    def piece(self, line: dict[str, Any]) -> str:
        """The text in one of the engine's lines."""
        ...

    async def keep(self, text: str, worker: str) -> None:
        """Told of a whole answer, before its end is sent. Raises Refusal."""
        ...

    def reply(self, text: str, figures: Figures) -> BaseModel: ...


@dataclass(frozen=True, slots=True)
class _Way:
    call: Call
    decision: Decision


class Answers:
    """here: whether a worker of that URL runs on the gateway's own host."""

    def __init__(
        self,
        fleet: Fleet,
        contexts: Contexts,
        meter: Meter,
        gate: Gate,
        limits: LimitSettings,
        here: Callable[[str], bool],
    ) -> None:
        self._fleet, self._contexts, self._meter, self._gate = fleet, contexts, meter, gate
        self._limits, self._here = limits, here
        self.max_body = limits.max_body

    async def give(self, job: Job, receive: Receive, send: Send, trace: Trace) -> None:
        """Answers the request, or raises Refusal before anything was sent, or ClientGone. The body was read before."""
        trace.model = canonical(job.model)
        self._fleet.must_know(trace.model, job.model)
        trace.user.must_have(trace.model)
        way = self._way(job, trace.wish)

        async def work() -> None:
            failed = False
            try:
                async with self._gate.admitted(way.call, trace):
                    await (self._stream if job.streams else self._whole)(job, way, send, trace)
            except (Refusal, LostError) as e:
                failed = isinstance(e, LostError) or e.status >= 500
                raise
            finally:
                self._meter.task(trace.elapsed(), failed=failed, exemplar=trace.exemplar)

        await until_gone(receive, work, trace, self._limits.request_timeout)

    def _way(self, job: Job, wish: Wish) -> _Way:
        model, options = canonical(job.model), dict(job.options)
        if model in self._fleet.contexts:
            options["num_ctx"] = self._fleet.contexts[model]
        body = {"truncate": False, "model": job.model, **job.body, "stream": True, "options": options}
        decision = self._decide(model, job, wish)
        if decision.prefer:
            wish = Wish(prefer=decision.prefer) if job.mode == "auto" else self._pinned(decision)
        return _Way(Call(job.path, model, job.model, encode(body), whole=False, value=body, wish=wish), decision)

    def _decide(self, model: str, job: Job, wish: Wish) -> Decision:
        """Raises Refusal (409, 503) where local is asked for and can't be."""
        if wish.worker:
            mode: Mode = "local" if self._local(wish.worker) else "distributed"
            return Decision(mode, "x-cluster-worker asks for this worker")
        if wish.policy and job.mode == "auto":
            return Decision("distributed", f"x-cluster-policy asks for {wish.policy}")
        seats = [
            Seat(
                w.name,
                self._here(w.upstream.url),
                w.in_flight,
                w.slots,
                model in w.loaded,
                w.upstream.gpu,
                w.speed(model),
            )
            for w in self._fleet.able(model)
        ]
        if job.mode == "auto":
            return should_distribute(tokens_of(job.length), seats)
        decision = as_asked(job.mode, seats)
        if decision is None:
            self._no_local(model)
        return decision

    def _local(self, name: str) -> bool:
        worker = self._fleet.workers.get(name)
        return worker is not None and self._here(worker.upstream.url)

    def _no_local(self, model: str) -> NoReturn:
        here = [w for w in self._fleet.workers.values() if self._here(w.upstream.url)]
        having = [w for w in here if model in w.placed or model in w.present]
        if having:
            text = f"worker '{having[0].name}' on the gateway's host is {having[0].state.value}: {having[0].reason}"
            raise Refusal(503, "local_unavailable", text, [(b"retry-after", b"5")])
        text = f"no engine on the gateway's host has model '{model}'; leave mode at auto"
        raise Refusal(409, "no_local_engine", text)

    def _pinned(self, decision: Decision) -> Wish:
        """Local was asked for: no other host may step in, be there a fault."""
        return Wish(worker=min(decision.prefer, key=lambda name: self._fleet.workers[name].in_flight))

    async def _whole(self, job: Job, way: _Way, send: Send, trace: Trace) -> None:
        for attempt in range(_ATTEMPTS):
            reply = await self._open(way.call, trace)
            try:
                lines = [line async for line in _lines(reply)]
                if not lines or not (DONE in lines[-1] or lines[-1].startswith(_ERROR)):
                    raise LostError("it ended before its end")
            except LostError:
                self._meter.faulted(reply.worker.name)
                if attempt + 1 == _ATTEMPTS:
                    raise
                self._meter.failover(reply.worker.name, way.call.model, "start")
                continue
            finally:
                reply.close()
            break
        trace.worker = reply.worker.name  # another one, where the answer went on elsewhere
        parsed = [_object(line) for line in lines]
        error = next((p["error"] for p in parsed if "error" in p), None)
        if error is not None:
            self._meter.faulted(reply.worker.name)
            raise Refusal(502, "engine_error", str(error))
        self._meter.served(reply.worker.name, reply.elapsed(), reply.waited)
        text = "".join(job.piece(p) for p in parsed)
        figures = self._figures(lines[-1], way, trace)
        await job.keep(text, trace.worker)
        await send_whole(send, 200, encode(job.reply(text, figures).model_dump()), [JSON, _named(trace)])

    async def _stream(self, job: Job, way: _Way, send: Send, trace: Trace) -> None:
        reply = await self._open(way.call, trace)
        said: list[str] = []
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [_NDJSON, _named(trace)]})
            ended = False
            async for line in _lines(reply):
                sent = line
                if job.keeps:
                    said.append(job.piece(_object(line)))
                if line.startswith(_ERROR):
                    trace.error = str(_object(line).get("error"))
                    sent, ended = _error_line(Refusal(502, "engine_error", trace.error), trace), True
                elif DONE in line:
                    trace.worker = reply.worker.name
                    sent, ended = await self._closing(job, line, "".join(said), way, trace), True
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
            text = e.reason if isinstance(e, LostError) else trace.late or "the gateway is shutting down"
            trace.error = f"broken stream: {text}"
            refusal = Refusal(502, "stream_broken", f"the answer broke off on worker {reply.worker.name}: {text}")
            await send({"type": "http.response.body", "body": _error_line(refusal, trace) + b"\n"})
            raise
        finally:
            reply.close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _closing(self, job: Job, line: bytes, text: str, way: _Way, trace: Trace) -> bytes:
        """A stream's last line."""
        figures = self._figures(line, way, trace)
        try:
            await job.keep(text, trace.worker)
        except Refusal as refusal:
            trace.error = refusal.message
            return _error_line(refusal, trace)
        return encode(job.reply("", figures).model_dump())

    async def _open(self, call: Call, trace: Trace) -> Reply:
        reply = await self._contexts.open(call, trace)
        trace.worker, trace.status = reply.worker.name, reply.status
        if reply.status != 200:
            reply.close()
            text = _object(reply.first).get("error") or f"the engine answered {reply.status}"
            raise Refusal(reply.status, "engine_error", str(text))
        trace.first_byte = trace.elapsed()
        self._meter.first_token(call.model, trace.worker, trace.first_byte, trace.exemplar)
        return reply

    def _figures(self, line: bytes, way: _Way, trace: Trace) -> Figures:
        """From the last line, metered on the way."""
        usage, decision = usage_of(line), way.decision
        if usage is not None:
            self._meter_usage(usage, trace)
        tokens, prompt = (usage.tokens, usage.prompt_tokens) if usage is not None else (0, 0)
        speed = usage.tokens_per_second if usage is not None else None
        mode, reason = decision.mode, decision.reason
        if mode == "local" and not self._local(trace.worker):
            mode, reason = "distributed", f"{reason}; but its engine failed, and another worker stepped in"
        return Figures(
            model=trace.model,
            done=True,
            done_reason=_object(line).get("done_reason"),
            worker=trace.worker,
            routing=Routing(mode=mode, reason=reason, worker=trace.worker),
            time_to_first_token=round(trace.first_byte or trace.elapsed(), 6),
            tokens_per_second=round(speed, 2) if speed is not None else None,
            load_time=usage.load if usage is not None else None,
            total_time=round(trace.elapsed(), 6),
            usage=TokenUsage(prompt_tokens=prompt, completion_tokens=tokens, total_tokens=prompt + tokens),
            request_id=trace.id,
        )

    def _meter_usage(self, usage: Usage, trace: Trace) -> None:
        trace.usage = usage
        self._meter.usage(trace.model, trace.worker, usage)
        worker = self._fleet.workers.get(trace.worker)
        if worker is not None:  # it may have been unregistered meanwhile
            self._fleet.measured(worker, trace.model, usage)


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


def parse(body: bytes, kind: type[Asked]) -> Asked:
    """Raises Refusal (400) that names the field, 413."""
    if not body:
        raise Refusal(400, "missing_body", "missing request body")
    parsing.parse(body)  # what an engine would refuse, such as NaN, or read in another way
    try:
        return kind.model_validate_json(body)
    except ValidationError as e:
        raise Refusal(400, "invalid_request", worded(e.errors())) from e


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _error_line(refusal: Refusal, trace: Trace) -> bytes:
    return encode(error_body(Api.NATIVE, refusal, trace.id))


def _named(trace: Trace) -> Header:
    return (b"x-cluster-worker", trace.worker.encode())
