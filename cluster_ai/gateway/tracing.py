"""Spans of requests for OpenTelemetry, where the configuration says where they go; else nothing of it is even imported.

A request's parts (its time in the queue, its attempts at workers) become spans when it ends, from the times that were
noted on its way. Who noted them is told by a context variable, so that the relay needn't know of requests.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster_ai import __version__
from cluster_ai.gateway.api.http import Header
from cluster_ai.gateway.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

_PATH = "/v1/traces"
_SCALE = 1_000_000_000


@dataclass(slots=True)
class Attempt:
    """At a worker. Times are of time.perf_counter; ended: None until the request's end."""

    worker: str
    started: float
    ended: float | None = None
    error: str = ""


_attempts: ContextVar[list[Attempt] | None] = ContextVar("attempts", default=None)


def attempted(worker: str) -> None:
    """The request of this task is sent to a worker."""
    noted = _attempts.get()
    if noted is not None:
        noted.append(Attempt(worker, time.perf_counter()))


def failed(reason: str) -> None:
    """The last attempt of this task's request came to nothing."""
    noted = _attempts.get()
    if noted:
        noted[-1].ended, noted[-1].error = time.perf_counter(), reason


class Tracing:
    def __init__(self, exporter: SpanExporter, cluster: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        who = {"service.name": "cluster-ai-gateway", "service.version": __version__, "service.namespace": cluster}
        self._provider = TracerProvider(resource=Resource.create(who), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("cluster_ai.gateway")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, route: str, headers: Iterable[Header], trace: Trace) -> Span:
        """In the request's own task. The client's traceparent is the span's parent."""
        from opentelemetry.trace import SpanKind

        given = {k.decode(): v.decode("latin-1") for k, v in headers if k in (b"traceparent", b"tracestate")}
        parent = self._propagator.extract(given) if given else None
        span = self._tracer.start_span(
            f"{method} {route}",
            context=parent,
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route, "cluster_ai.request_id": trace.id},
        )
        trace.trace_id = f"{span.get_span_context().trace_id:032x}"
        _attempts.set([])
        return span

    def end(self, span: Span, status: int, trace: Trace) -> None:
        """In the task in which it began."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        noted = _attempts.get() or []
        _attempts.set(None)
        wall, now = time.time_ns(), time.perf_counter()

        def at(moment: float) -> int:
            return wall - int((now - moment) * _SCALE)

        inside = set_span_in_context(span)
        if trace.queued:
            end = noted[0].started if noted else now
            queue = self._tracer.start_span("queue", context=inside, start_time=at(end - trace.queued))
            queue.end(at(end))
        for attempt in noted:
            self._attempt(attempt, inside, at, now)
        for name, value in _facts(status, trace):
            span.set_attribute(name, value)
        if status >= 500 or trace.error:
            span.set_status(Status(StatusCode.ERROR, trace.error or None))
        span.end(wall)

    def _attempt(self, attempt: Attempt, inside: Any, at: Any, now: float) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        facts = {"cluster_ai.worker": attempt.worker}
        started = at(attempt.started)
        made = self._tracer.start_span(
            f"upstream {attempt.worker}", context=inside, kind=SpanKind.CLIENT, start_time=started, attributes=facts
        )
        if attempt.error:
            made.set_status(Status(StatusCode.ERROR, attempt.error))
        made.end(at(now if attempt.ended is None else attempt.ended))

    def close(self) -> None:
        """Sends what isn't sent yet; blocks until that is done or given up."""
        self._provider.shutdown()


def _facts(status: int, trace: Trace) -> Iterator[tuple[str, str | int | float]]:
    yield "http.response.status_code", status
    yield "enduser.id", trace.user.name
    if trace.model:
        yield "gen_ai.request.model", trace.model
    if trace.worker:
        yield "cluster_ai.worker", trace.worker
    if trace.first_byte is not None:
        yield "cluster_ai.time_to_first_token", trace.first_byte
    if trace.usage is not None:
        yield "gen_ai.usage.input_tokens", trace.usage.prompt_tokens
        yield "gen_ai.usage.output_tokens", trace.usage.tokens


def tracing(receiver: str | None, cluster: str) -> Tracing | None:
    """receiver: the base URL of one that speaks OTLP over HTTP; None: there is no tracing."""
    if receiver is None:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return Tracing(OTLPSpanExporter(receiver.rstrip("/") + _PATH), cluster)
