"""Prometheus, as the dashboard asks it: PromQL made here, answers parsed here; all pure but `Prometheus`.

A rate looks back over `rate_window`, which must hold a few scrapes: that is why `Prometheus` is asked how often it
scrapes, instead of believing a constant. What a page wants to know it asks at once: a query for each number and line
would cost it a round trip each.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from cluster_ai.errors import UnavailableError

POINTS = 180  # a chart's points over its whole span, more than its pixels can tell apart
TIMEOUT = 10  # seconds for all that a page asks at once
_ASKED = "asked"  # the label that tells the answers of one query apart


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Mapping[str, str]
    value: float | None  # None: NaN or infinite, such as a quantile of nothing


@dataclass(frozen=True, slots=True)
class Lines:
    """Of a chart: what is asked, and how each series of the answer is called."""

    query: str
    name: Callable[[Mapping[str, str]], str]


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fires. runbook: where it stands what to do, such as docs/alerts.md#modelslow."""

    name: str
    critical: bool
    summary: str
    runbook: str


@dataclass(frozen=True, slots=True)
class Span:
    """The time that charts show: the last `seconds`, in steps on a grid that does not move between two refreshes."""

    seconds: int
    scrape: float = 15.0  # seconds between two scrapes
    end: float | None = None  # seconds since 1970; None: now

    @property
    def step(self) -> int:
        return max(math.ceil(self.seconds / POINTS), math.ceil(self.scrape))

    @property
    def rate_window(self) -> str:
        return f"{max(60, math.ceil(4 * self.scrape), self.step)}s"

    def grid(self, now: float) -> range:
        end = int(now if self.end is None else self.end) // self.step * self.step
        return range(end - self.seconds // self.step * self.step, end + 1, self.step)


# PromQL


def total_rate(metric: str, window: str, by: Sequence[str] = ()) -> str:
    return f"sum{_by(by)} (rate({metric}[{window}]))"


def quantile(q: float, histogram: str, window: str, by: Sequence[str] = (), *, selector: str = "") -> str:
    """selector: which series, such as {model="x"}; empty: all."""
    return f"histogram_quantile({q}, sum{_by(('le', *by))} (rate({histogram}_bucket{selector}[{window}])))"


def increase(metric: str, window: str, by: Sequence[str] = ()) -> str:
    return f"sum{_by(by)} (increase({metric}[{window}]))"


def together(queries: Mapping[str, str]) -> str:
    """One query that answers all of them; each of its series has the key of its own in the label _ASKED."""
    return " or ".join(f'label_replace({query}, "{_ASKED}", "{key}", "", "")' for key, query in queries.items())


def _by(labels: Sequence[str]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


# Parsing


def parse_instant(result: Sequence[Mapping[str, Any]]) -> list[Sample]:
    return [Sample(series["metric"], _number(series["value"][1])) for series in result]


def parse_alerts(alerts: Sequence[Mapping[str, Any]]) -> tuple[Firing, ...]:
    found = [
        Firing(
            it["labels"]["alertname"],
            it["labels"].get("severity") == "critical",
            it.get("annotations", {}).get("summary", it["labels"]["alertname"]),
            it.get("annotations", {}).get("runbook", ""),
        )
        for it in alerts
        if it["state"] == "firing"
    ]
    return tuple(sorted(found, key=lambda it: (it.name, it.summary)))


def parse_range(
    result: Sequence[Mapping[str, Any]], grid: range, name: Callable[[Mapping[str, str]], str]
) -> pd.DataFrame:
    """Long form: time (UTC), series, value; every series on the whole grid, so that a gap is a gap."""
    index = pd.to_datetime(np.asarray(grid, dtype="int64"), unit="s", utc=True)
    named = sorted(((name(series["metric"]), series["values"]) for series in result), key=lambda it: it[0])
    values = np.full((len(named), len(grid)), math.nan)
    for row, (_, points) in enumerate(named):
        at, told = np.array(
            points, dtype="float64"
        ).T  # Prometheus writes numbers as Python reads them, NaN and Inf too
        values[row, (at.astype("int64") - grid.start) // grid.step] = told
    values[~np.isfinite(values)] = math.nan
    return pd.DataFrame(
        {
            "time": index[np.tile(np.arange(len(grid)), len(named))],
            "series": pd.Series(np.repeat([it for it, _ in named], len(grid)), dtype="str"),
            "value": values.reshape(-1),
        }
    )


def by_label(samples: Sequence[Sample], label: str) -> dict[str, float | None]:
    return {s.labels[label]: s.value for s in samples if label in s.labels}


def duration(text: str) -> float:
    """Seconds of Prometheus' way of writing a duration, such as 1m30s or 500ms."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhdwy])", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"not a duration: {text!r}")
    return sum(float(number) * units[unit] for number, unit in parts)


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


# The edge


class Prometheus:
    """One Prometheus, through prometheus-api-client; whatever goes wrong becomes an UnavailableError with a remedy."""

    def __init__(self, url: str, *, timeout: int = TIMEOUT, clock: Callable[[], float] = time.time) -> None:
        self.url = url
        self._clock = clock
        self._client = PrometheusConnect(url=url.rstrip("/"), retry=Retry(total=0), timeout=timeout)

    def instant(self, query: str, at: float | None = None) -> list[Sample]:
        """at: as of when, seconds since 1970; None: now."""
        with self._translated():
            return parse_instant(self._client.custom_query(query, None if at is None else {"time": at}))

    def value(self, query: str, at: float | None = None) -> float | None:
        """Of a query that answers with at most one series."""
        samples = self.instant(query, at)
        return samples[0].value if samples else None

    def instants(self, queries: Mapping[str, str], at: float | None = None) -> dict[str, list[Sample]]:
        """The answer to each of the queries, in one round trip."""
        found: dict[str, list[Sample]] = {key: [] for key in queries}
        for sample in self.instant(together(queries), at):
            found[sample.labels[_ASKED]].append(sample)
        return found

    def charts(self, charts: Mapping[str, Sequence[Lines]], span: Span) -> dict[str, pd.DataFrame]:
        """The lines of each chart, in one round trip."""
        grid = span.grid(self._clock())
        start, end = (datetime.fromtimestamp(at, UTC) for at in (grid[0], grid[-1]))
        wanted = {f"{chart} {place}": it for chart, lines in charts.items() for place, it in enumerate(lines)}
        answers: dict[str, list[Mapping[str, Any]]] = {key: [] for key in wanted}
        with self._translated():
            query = together({key: it.query for key, it in wanted.items()})
            for series in self._client.custom_query_range(query, start, end, str(span.step)):
                answers[series["metric"][_ASKED]].append(series)
            frames = {key: parse_range(answers[key], grid, it.name) for key, it in wanted.items()}
        return {
            chart: pd.concat([frames[f"{chart} {place}"] for place in range(len(lines))], ignore_index=True)
            for chart, lines in charts.items()
        }

    def firing(self) -> tuple[Firing, ...]:
        """Alerts that fire now, by name."""
        with self._translated():
            answer = requests.get(f"{self.url.rstrip('/')}/api/v1/alerts", timeout=TIMEOUT)
            answer.raise_for_status()
            return parse_alerts(answer.json()["data"]["alerts"])

    def scrape_interval(self) -> float:
        """Seconds between two scrapes of the gateway; 15 where Prometheus has no such target yet."""
        with self._translated():
            targets = self._client.get_targets(state="active").get("activeTargets", [])
        found = [t["scrapeInterval"] for t in targets if t.get("labels", {}).get("job") == "gateway"]
        return duration(found[0]) if found else 15.0

    @contextlib.contextmanager
    def _translated(self) -> Any:
        try:
            yield
        except PrometheusApiClientException as error:
            raise UnavailableError(
                f"Prometheus refused a query: {error}",
                where=self.url,
                remedy="its log says why: `journalctl -u cluster-ai-prometheus`",
            ) from error
        except (requests.RequestException, ValueError, KeyError) as error:
            raise UnavailableError(
                f"Prometheus doesn't answer ({_cause(error)})",
                where=self.url,
                remedy="start it: `systemctl start cluster-ai-prometheus` on the head host, or `cluster-ai up`",
            ) from error


def _cause(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "connection refused or lost"
    return "its answer is not Prometheus'"
