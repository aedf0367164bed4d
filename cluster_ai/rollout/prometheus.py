"""What workers did before a switch and after it, from the Prometheus on the head host; and the judgement of it.

prometheus-api-client, which the dashboard uses on the head host, isn't used here: it speaks to an address, by requests,
and this Prometheus listens on the head's loopback only, which is reached by SSH; and it brings pandas and matplotlib,
which the controller has no other use for. Six queries don't need it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from cluster_ai import layout
from cluster_ai.config.model import Canary
from cluster_ai.errors import HostError, UnavailableError
from cluster_ai.metrics import names
from cluster_ai.rollout.analysis import Check, Measured, Quotient, Trial, Verdict, judge
from cluster_ai.rollout.on_head import OnHead

if TYPE_CHECKING:
    from cluster_ai.rollout.scope import Scope

Span = tuple[float, float]  # seconds since 1970, begin and end
Ask = Callable[[str], tuple[int, str]]  # path -> status and text


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Course:
    """A series over time: seconds since 1970, and the value then."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


class Prometheus:
    """Queries of one server. Raises UnavailableError, and what `ask` raises."""

    def __init__(self, ask: Ask, *, where: str = "") -> None:
        self._ask, self._where = ask, where

    def query(self, text: str, at: float | None = None) -> list[Sample]:
        """at: as of when; None: now."""
        found = self._data("query", {"query": text} if at is None else {"query": text, "time": f"{at:.3f}"})
        if found["resultType"] == "scalar":
            return [Sample({}, float(found["result"][1]))]
        return [Sample(series["metric"], float(series["value"][1])) for series in found["result"]]

    def over(self, text: str, span: Span, step: float) -> list[Course]:
        """A value every `step` seconds."""
        begin, end = span
        parameters = {"query": text, "start": f"{begin:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return [
            Course(series["metric"], tuple((float(at), float(value)) for at, value in series["values"]))
            for series in self._data("query_range", parameters)["result"]
        ]

    def _data(self, kind: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        status, text = self._ask(f"/api/v1/{kind}?{urlencode(parameters)}")
        try:
            answer = json.loads(text)
            if answer["status"] == "success":
                return dict(answer["data"])
            said = answer["error"]
        except (ValueError, KeyError, TypeError):
            said = f"it answers {status}: {text[:200]}"
        raise UnavailableError(
            f"Prometheus refused a query: {said}", where=self._where, remedy=f"on it: journalctl -u {layout.PROMETHEUS}"
        )


def of_head(scope: Scope) -> Prometheus:
    """The cluster's own, asked by SSH."""
    head, port = scope.head.name, scope.config.monitoring.port
    on_head = OnHead(head, scope.argv([head])[head], scope.sudo_password)

    def ask(path: str) -> tuple[int, str]:
        return on_head.ask("GET", port, path, what="Prometheus", unit=layout.PROMETHEUS)

    return Prometheus(ask, where=head)


def measured(prometheus: Prometheus, span: Span) -> dict[str, Measured]:
    """By worker, what happened within the span. Restarts of the gateway in it are seen through by increase()."""
    begin, end = span
    window = f"{max(1, round((end - begin) * 1000))}ms"

    def increases(metric: str, *by: str) -> dict[tuple[str, ...], float]:
        found = prometheus.query(f"sum by ({', '.join(by)}) (increase({metric}[{window}]))", end)
        return {tuple(sample.labels.get(label, "") for label in by): sample.value for sample in found}

    requests = increases(names.WORKER_REQUESTS.name, "worker", "outcome")
    latencies = (names.WORKER_RESPONSE_TIME.name, names.WORKER_FIRST_TOKEN.name)
    sums, counts = ([increases(f"{it}_{suffix}", "worker") for it in latencies] for suffix in ("sum", "count"))
    tokens, seconds = (
        increases(metric.name, "worker", "model") for metric in (names.WORKER_TIMED_TOKENS, names.WORKER_EVAL_SECONDS)
    )
    found = {}
    for worker in sorted({labels[0] for labels in (*requests, *tokens)}):
        key = (worker,)
        response, first_token = (
            Quotient(total.get(key, 0.0), count.get(key, 0.0)) for total, count in zip(sums, counts, strict=True)
        )
        speed = {
            model: Quotient(count, seconds[owner, model])
            for (owner, model), count in tokens.items()
            if owner == worker and count and seconds.get((owner, model))
        }
        found[worker] = Measured(
            requests.get((worker, "ok"), 0.0), requests.get((worker, "error"), 0.0), response, first_token, speed
        )
    return found


def analyse(
    scope: Scope,
    switched: Sequence[str],
    others: Sequence[str],
    *,
    before: Span,
    after: Span,
    limits: Canary,
) -> Verdict:
    """Judge the workers that were switched. before, after: by this machine's clock, which the head's may differ from.

    A Prometheus that can't be asked says nothing, which is inconclusive.
    """
    head, prometheus = scope.head.name, of_head(scope)
    try:
        asked = time.time()
        (now,) = prometheus.query("time()")
        offset = now.value - (asked + time.time()) / 2
        then, since = (measured(prometheus, (begin + offset, end + offset)) for begin, end in (before, after))
    except (HostError, UnavailableError) as error:
        said = f"{error.where}: {error.what}: inconclusive"
        return Verdict("inconclusive", (Check("Prometheus", head, None, None, 0.0, "inconclusive", said),))

    def trials(workers: Sequence[str]) -> dict[str, Trial]:
        return {name: Trial(then.get(name, Measured()), since.get(name, Measured())) for name in workers}

    return judge(canary=trials(switched), baseline=trials(others), limits=limits)
