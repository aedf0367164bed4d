"""What requests came to: counted here, told to Prometheus by exposition.py.

A relayed stream isn't read. Only its last line is kept, in which the engine says what it did.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from cluster_ai.metrics import names
from cluster_ai.metrics.names import Metric

_TAIL_LIMIT = 64 * 1024
_PROMPT_KEYS = (b"prompt_eval_count", b"prompt_tokens", b"input_tokens")  # Ollama's, OpenAI's, Anthropic's
_ANSWER_KEYS = (b"eval_count", b"completion_tokens", b"output_tokens")
_TOKEN_KEYS = frozenset((*_PROMPT_KEYS, *_ANSWER_KEYS))
_TIME_KEYS = (b"load_duration", b"total_duration", b"eval_duration")
_NUMBERS = re.compile(rb'"(' + b"|".join((*sorted(_TOKEN_KEYS), *_TIME_KEYS)) + rb')":\s*(\d{1,18})')
_CACHE_WINDOW = 256
# Ollama also counts its bookkeeping as load_duration: 5 to 150 ms when the model is in memory; reading even the
# smallest model takes longer.
TIMED = 16  # tokens of an answer that says how fast its worker is; what every answer costs weighs too much in fewer
LOADED_WITHIN = 0.25
_NS = 1e9
_SLOW = 0.1  # seconds of a figure that bears an exemplar: they cost some microseconds, and quick ones are no riddle

C = TypeVar("C", Counter, Histogram)
Exemplar = dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What the engine says it did, in tokens and seconds; None where it doesn't say (OpenAI answers have no times)."""

    prompt_tokens: int
    tokens: int
    run: float | None
    load: float | None
    eval: float | None

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.eval if self.eval else None


class Tail:
    """The end of a stream's last line, whatever pieces it came in."""

    __slots__ = ("line",)

    def __init__(self) -> None:
        self.line = b""

    def feed(self, piece: bytes) -> None:
        cut = piece.rfind(b"\n", 0, -1) + 1
        if cut:
            self.line = piece[cut:]
        elif self.at_line_end():
            self.line = piece
        else:
            self.line += piece
        if len(self.line) > _TAIL_LIMIT:
            self.line = self.line[-_TAIL_LIMIT:]

    def at_line_end(self) -> bool:
        return not self.line or self.line.endswith(b"\n")


def usage_of(line: bytes) -> Usage | None:
    """From Ollama's last line, the last events of another API's stream, or a whole answer; None: it says nothing.

    Found by pattern in the end of the line, where engines put it: an answer with thousands of embeddings must not be
    parsed for five numbers. Text in the answer can't be mistaken for them, since quotes inside of JSON strings are
    escaped.
    """
    found = {key: int(value) for key, value in _NUMBERS.findall(line[-_TAIL_LIMIT:])}
    if not found.keys() & _TOKEN_KEYS:
        return None
    load, total, eval_ = (found[k] / _NS if k in found else None for k in _TIME_KEYS)
    return Usage(
        next((found[k] for k in _PROMPT_KEYS if k in found), 0),
        next((found[k] for k in _ANSWER_KEYS if k in found), 0),
        max(total - (load or 0.0), 0.0) if total is not None else None,
        load,
        eval_,
    )


@dataclass(slots=True)
class Tasks:
    total: int = 0
    failed: int = 0


class HitRate:
    """Share of hits among the last few."""

    def __init__(self) -> None:
        self._last: deque[bool] = deque(maxlen=_CACHE_WINDOW)

    def add(self, hit: bool) -> None:
        self._last.append(hit)

    @property
    def share(self) -> float:
        return sum(self._last) / len(self._last)


class _By(dict[tuple[str, ...], C]):
    """A metric's children by their labels: twice as quick as asking the metric for them."""

    def __init__(self, metric: C) -> None:
        super().__init__()
        self._metric: C = metric

    def __missing__(self, labels: tuple[str, ...]) -> C:
        child: C = self._metric.labels(*labels)
        self[labels] = child
        return child


class Meter:
    """Counters and histograms of requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody reads
        self.tasks = Tasks()
        self.hits: dict[str, HitRate] = {}
        self._response_time = _histogram(names.RESPONSE_TIME, registry)
        self._inference_time = _By(_histogram(names.INFERENCE_TIME, registry))
        self._load_time = _By(_histogram(names.LOAD_TIME, registry))
        self._first_token = _By(_histogram(names.FIRST_TOKEN, registry))
        self._inter_token = _By(_histogram(names.INTER_TOKEN, registry))
        self._tokens = _By(_counter(names.TOKENS, registry))
        self._requests = _By(_counter(names.REQUESTS, registry))
        self._failovers = _By(_counter(names.FAILOVERS, registry))
        self._worker_failovers = _By(_counter(names.WORKER_FAILOVERS, registry))
        self._worker_requests = _By(_counter(names.WORKER_REQUESTS, registry))
        self._worker_response_time = _By(_histogram(names.WORKER_RESPONSE_TIME, registry))
        self._worker_first_token = _By(_histogram(names.WORKER_FIRST_TOKEN, registry))
        self._timed_tokens = _By(_counter(names.WORKER_TIMED_TOKENS, registry))
        self._eval_seconds = _By(_counter(names.WORKER_EVAL_SECONDS, registry))
        self._queue_time = _By(_histogram(names.QUEUE_TIME, registry))
        self._refused = _By(_counter(names.REFUSED, registry))
        self._too_long = _By(_counter(names.TOO_LONG, registry))
        self._repairs = _By(_counter(names.MODEL_REPAIRS, registry))
        self._short = _gauge(names.MODEL_SHORT, registry)
        self._wanted = _gauge(names.MODEL_WANTED, registry)
        for moment in ("start", "stream"):
            self._failovers[moment,]
        for reason in ("queue_full", "queue_timeout", "user_limit"):
            self._refused[reason,]

    def request(self, route: str, code: int) -> None:
        self._requests[route, str(code)].inc()

    def queued(self, model: str, seconds: float) -> None:
        """A request for the model waited so long for a slot."""
        self._queue_time[model,].observe(seconds)

    def too_long(self, model: str) -> None:
        """A prompt was longer than the model's context."""
        self._too_long[model,].inc()

    def refused(self, reason: str) -> None:
        self._refused[reason,].inc()

    def task(self, seconds: float, *, failed: bool, exemplar: Exemplar = None) -> None:
        """exemplar: by what such a request is found in logs and traces."""
        self.tasks.total += 1
        self.tasks.failed += failed
        self._response_time.observe(seconds, exemplar if seconds > _SLOW else None)

    def first_token(self, model: str, worker: str, seconds: float, exemplar: Exemplar = None) -> None:
        self._first_token[model, worker].observe(seconds, exemplar if seconds > _SLOW else None)

    def expect(self, worker: str, models: Iterable[str]) -> None:
        """Show its counters from zero on: of a counter that begins at one, Prometheus never sees the increase."""
        for outcome in ("ok", "error"):
            self._worker_requests[worker, outcome]
        for histogram in (self._worker_response_time, self._worker_first_token):
            histogram[worker,]
        for model in models:
            self._timed_tokens[worker, model]
            self._eval_seconds[worker, model]
            self._worker_failovers[worker, model]

    def served(self, worker: str, seconds: float, first: float | None) -> None:
        """A worker gave a whole answer. first: seconds to its stream's first byte; None: no stream."""
        self._worker_requests[worker, "ok"].inc()
        self._worker_response_time[worker,].observe(seconds)
        if first is not None:
            self._worker_first_token[worker,].observe(first)

    def faulted(self, worker: str) -> None:
        """A worker didn't give the answer that it should have given."""
        self._worker_requests[worker, "error"].inc()

    def usage(self, model: str, worker: str, usage: Usage, streamed: float | None = None) -> None:
        """streamed: seconds from the first byte of its stream to the last, for an engine that tells no time."""
        if usage.tokens:
            self._tokens[model, worker].inc(usage.tokens)
            time = usage.eval if usage.eval is not None else streamed
            if time is not None and usage.tokens > 1:
                self._inter_token[model, worker].observe(time / (usage.tokens - (usage.eval is None)))
            if usage.eval and usage.tokens >= TIMED:
                self._timed_tokens[worker, model].inc(usage.tokens)
                self._eval_seconds[worker, model].inc(usage.eval)
        if usage.run is not None:
            self._inference_time[model,].observe(usage.run)
        if usage.load is not None:
            hit = usage.load < LOADED_WITHIN
            self.hits.setdefault(model, HitRate()).add(hit)
            if not hit:
                self._load_time[model,].observe(usage.load)

    def expect_repairs(self, model: str) -> None:
        """As expect."""
        for do in ("load", "fetch", "release"):
            for result in ("done", "failed"):
                self._repairs[model, do, result]
        self._short.labels(model).set(0)

    def repaired(self, model: str, do: str, *, done: bool) -> None:
        """The reconciler took a step, or couldn't."""
        self._repairs[model, do, "done" if done else "failed"].inc()

    def replicas_short(self, short: Mapping[str, int]) -> None:
        for model, count in short.items():
            self._short.labels(model).set(count)

    def replicas_wanted(self, model: str, count: int) -> None:
        self._wanted.labels(model).set(count)

    def failover(self, worker: str, model: str, moment: str) -> None:
        """worker: from which another took over; moment: start, unseen by the client, or stream, in its midst."""
        self._failovers[moment,].inc()
        self._worker_failovers[worker, model].inc()


def _counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    return Counter(metric.name, metric.help, metric.labels, registry=registry)


def _histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)


def _gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)
