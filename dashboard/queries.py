"""What the dashboard asks Prometheus: PromQL made here, answers parsed here, so that pages only draw.

Everything but `Prometheus` is pure. A rate looks back over `rate_window`, which must hold a few scrapes: that is why
`Prometheus` is asked how often it scrapes, instead of believing a constant.
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

import pandas as pd
import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from cluster_ai.errors import UnavailableError

POINTS = 180  # a chart's points over its whole span, more than its pixels can tell apart
TIMEOUT = 5  # seconds for one query


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Mapping[str, str]
    value: float | None  # None: NaN or infinite, such as a quantile of nothing


@dataclass(frozen=True, slots=True)
class Span:
    """The time that charts show: the last `seconds`, in steps on a grid that does not move between two refreshes."""

    seconds: int
    scrape: float = 15.0  # seconds between two scrapes

    @property
    def step(self) -> int:
        return max(math.ceil(self.seconds / POINTS), math.ceil(self.scrape))

    @property
    def rate_window(self) -> str:
        return f"{max(60, math.ceil(4 * self.scrape), self.step)}s"

    def grid(self, now: float) -> range:
        end = int(now) // self.step * self.step
        return range(end - self.seconds // self.step * self.step, end + 1, self.step)


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    cpu: float | None  # 0..1
    memory_used: float | None  # bytes
    memory_total: float | None
    disk_free: float | None  # bytes on /
    disk_total: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    newest: float | None  # epoch seconds of the newest scrape of the gateway; None: never scraped
    workers_up: int
    workers_down: tuple[str, ...]
    targets_down: tuple[str, ...]  # "job instance" that Prometheus can't scrape
    requests: float | None  # per second
    tokens: float | None  # per second
    p50: float | None  # seconds
    p95: float | None
    finished: float  # within the span
    failed: float
    failovers: float
    hosts: tuple[Host, ...]
    charts: Mapping[str, pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Worker:
    name: str
    up: bool
    cpu: float | None  # 0..1
    memory: float | None  # bytes
    memory_total: float | None
    gpu_memory: float | None  # bytes of all cards; None: no card
    gpu_memory_total: float | None
    tasks: float | None  # requests and Dask tasks in work
    tokens: float | None  # per second
    loaded: tuple[str, ...]  # models in memory


@dataclass(frozen=True, slots=True)
class Workers:
    newest: float | None
    workers: tuple[Worker, ...]
    hosts: tuple[Host, ...]
    charts: Mapping[str, pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    requests: float | None  # per second
    tokens: float | None  # per second
    generated: float | None  # tokens within the span
    p50: float | None  # seconds of inference
    p95: float | None
    load_time: float | None  # seconds, mean within what Prometheus keeps


@dataclass(frozen=True, slots=True)
class Models:
    newest: float | None
    models: tuple[Model, ...]
    charts: Mapping[str, pd.DataFrame]


# PromQL


def total_rate(metric: str, window: str, by: Sequence[str] = ()) -> str:
    return f"sum{_by(by)} (rate({metric}[{window}]))"


def quantile(q: float, histogram: str, window: str, by: Sequence[str] = ()) -> str:
    return f"histogram_quantile({q}, sum{_by(('le', *by))} (rate({histogram}_bucket[{window}])))"


def increase(metric: str, window: str, by: Sequence[str] = ()) -> str:
    return f"sum{_by(by)} (increase({metric}[{window}]))"


def _by(labels: Sequence[str]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


TASKS, FAILED = (f'cluster_{name}_tasks_total{{kind="inference"}}' for name in ("total", "failed"))
NEWEST = 'max(timestamp(up{job="gateway"} == 1))'
UP = "max by (worker) (worker_up)"
TARGETS_DOWN = "up == 0"
HOST_CPU = '1 - avg by (host) (rate(node_cpu_seconds_total{{mode="idle"}}[{window}]))'
HOST_MEMORY_TOTAL = "max by (host) (node_memory_MemTotal_bytes)"
HOST_MEMORY_USED = "max by (host) (node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes)"
HOST_DISK_FREE = 'max by (host) (node_filesystem_avail_bytes{mountpoint="/"})'
HOST_DISK_TOTAL = 'max by (host) (node_filesystem_size_bytes{mountpoint="/"})'


# Parsing


def parse_instant(result: Sequence[Mapping[str, Any]]) -> list[Sample]:
    return [Sample(series["metric"], _number(series["value"][1])) for series in result]


def parse_range(
    result: Sequence[Mapping[str, Any]], grid: Sequence[int], name: Callable[[Mapping[str, str]], str]
) -> pd.DataFrame:
    """Long form: time (UTC), series, value; every series on the whole grid, so that a gap is a gap."""
    index = pd.DatetimeIndex(pd.to_datetime(list(grid), unit="s", utc=True), name="time")
    frames = []
    for series in sorted(result, key=lambda s: name(s["metric"])):
        values = {int(at): number for at, text in series["values"] if (number := _number(text)) is not None}
        column = [values.get(at, math.nan) for at in grid]
        frames.append(pd.DataFrame({"time": index, "series": name(series["metric"]), "value": column}))
    if not frames:
        return pd.DataFrame(
            {"time": index[:0], "series": pd.Series([], dtype="str"), "value": pd.Series([], dtype="float64")}
        )
    return pd.concat(frames, ignore_index=True)


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

    def instant(self, query: str) -> list[Sample]:
        with self._translated():
            return parse_instant(self._client.custom_query(query))

    def value(self, query: str) -> float | None:
        """Of a query that answers with at most one series."""
        samples = self.instant(query)
        return samples[0].value if samples else None

    def over(self, query: str, span: Span, name: Callable[[Mapping[str, str]], str]) -> pd.DataFrame:
        grid = span.grid(self._clock())
        start, end = (datetime.fromtimestamp(at, UTC) for at in (grid[0], grid[-1]))
        with self._translated():
            return parse_range(self._client.custom_query_range(query, start, end, str(span.step)), grid, name)

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


def overview(prometheus: Prometheus, span: Span) -> Overview:
    w, whole = span.rate_window, f"{span.seconds}s"
    up = by_label(prometheus.instant(UP), "worker")
    one = {
        key: prometheus.value(query)
        for key, query in {
            "newest": NEWEST,
            "requests": total_rate(TASKS, w),
            "tokens": total_rate("model_tokens_generated_total", w),
            "p50": quantile(0.5, "cluster_response_time_seconds", w),
            "p95": quantile(0.95, "cluster_response_time_seconds", w),
            "finished": increase(TASKS, whole),
            "failed": increase(FAILED, whole),
            "failovers": increase("gateway_failovers_total", whole),
        }.items()
    }
    down = prometheus.instant(TARGETS_DOWN)
    return Overview(
        newest=one["newest"],
        workers_up=sum(1 for value in up.values() if value),
        workers_down=tuple(sorted(name for name, value in up.items() if not value)),
        targets_down=tuple(
            sorted(f"{s.labels.get('job', '?')} on {s.labels.get('host', s.labels.get('instance', '?'))}" for s in down)
        ),
        requests=one["requests"],
        tokens=one["tokens"],
        p50=one["p50"],
        p95=one["p95"],
        finished=one["finished"] or 0.0,
        failed=one["failed"] or 0.0,
        failovers=one["failovers"] or 0.0,
        hosts=hosts(prometheus, w),
        charts={
            "requests": pd.concat(
                [
                    prometheus.over(total_rate(TASKS, w), span, lambda _: "all"),
                    prometheus.over(total_rate(FAILED, w), span, lambda _: "failed"),
                ],
                ignore_index=True,
            ),
            "tokens": prometheus.over(
                total_rate("model_tokens_generated_total", w, ["model"]), span, lambda m: m["model"]
            ),
            "response": pd.concat(
                [
                    prometheus.over(
                        quantile(0.5, "cluster_response_time_seconds", w), span, lambda _: "half of the answers"
                    ),
                    prometheus.over(
                        quantile(0.95, "cluster_response_time_seconds", w), span, lambda _: "95 % of the answers"
                    ),
                ],
                ignore_index=True,
            ),
            "in_flight": prometheus.over(
                f"sum by (worker) (avg_over_time(gateway_in_flight[{w}]))", span, lambda m: m["worker"]
            ),
        },
    )


def hosts(prometheus: Prometheus, window: str) -> tuple[Host, ...]:
    """Every host that a node_exporter tells of; none where there is none."""
    cpu, used, total, free, size = (
        by_label(prometheus.instant(query), "host")
        for query in (
            HOST_CPU.format(window=window),
            HOST_MEMORY_USED,
            HOST_MEMORY_TOTAL,
            HOST_DISK_FREE,
            HOST_DISK_TOTAL,
        )
    )
    return tuple(
        Host(name, cpu.get(name), used.get(name), total.get(name), free.get(name), size.get(name))
        for name in sorted({*cpu, *total, *size})
    )


def workers(prometheus: Prometheus, span: Span) -> Workers:
    w = span.rate_window
    tokens_rate = total_rate("model_tokens_generated_total", w, ["worker"])
    up, cpu, memory, total, gpu, gpu_total, tasks, tokens = (
        by_label(prometheus.instant(query), "worker")
        for query in (
            UP,
            "max by (worker) (worker_cpu_usage)",
            "max by (worker) (worker_memory_usage)",
            "max by (worker) (worker_memory_capacity)",
            "sum by (worker) (worker_gpu_memory)",
            "sum by (worker) (worker_gpu_memory_capacity)",
            "sum by (worker) (worker_active_tasks)",
            tokens_rate,
        )
    )
    loaded = [s.labels for s in prometheus.instant("worker_model_loaded == 1")]
    return Workers(
        newest=prometheus.value(NEWEST),
        workers=tuple(
            Worker(
                name=name,
                up=bool(up.get(name)),
                cpu=cpu.get(name),
                memory=memory.get(name),
                memory_total=total.get(name),
                gpu_memory=gpu.get(name),
                gpu_memory_total=gpu_total.get(name),
                tasks=tasks.get(name),
                tokens=tokens.get(name),
                loaded=tuple(sorted(m["model"] for m in loaded if m["worker"] == name)),
            )
            for name in sorted({*up, *cpu})
        ),
        hosts=hosts(prometheus, w),
        charts={
            key: prometheus.over(query, span, name)
            for key, query, name in (
                ("cpu", "max by (worker) (worker_cpu_usage)", _worker),
                ("memory", "max by (worker) (worker_memory_usage)", _worker),
                ("gpu_memory", "sum by (worker, gpu) (worker_gpu_memory)", _card),
                ("tasks", f"sum by (worker) (avg_over_time(worker_active_tasks[{w}]))", _worker),
                ("tokens", tokens_rate, _worker),
            )
        },
    )


def _worker(labels: Mapping[str, str]) -> str:
    return labels.get("worker", "?")


def _card(labels: Mapping[str, str]) -> str:
    return f"{labels.get('worker', '?')} card {labels.get('gpu', '?')}"


def models(prometheus: Prometheus, span: Span) -> Models:
    w, whole = span.rate_window, f"{span.seconds}s"
    inference = "model_inference_time_seconds"
    requests_, tokens, generated, p50, p95, load = (
        by_label(prometheus.instant(query), "model")
        for query in (
            total_rate(f"{inference}_count", w, ["model"]),
            total_rate("model_tokens_generated_total", w, ["model"]),
            increase("model_tokens_generated_total", whole, ["model"]),
            quantile(0.5, inference, whole, ["model"]),
            quantile(0.95, inference, whole, ["model"]),
            "sum by (model) (model_load_time_seconds_sum) / sum by (model) (model_load_time_seconds_count)",
        )
    )
    return Models(
        newest=prometheus.value(NEWEST),
        models=tuple(
            Model(
                name,
                requests_.get(name),
                tokens.get(name),
                generated.get(name),
                p50.get(name),
                p95.get(name),
                load.get(name),
            )
            for name in sorted({*requests_, *tokens})
        ),
        charts={
            "tokens": prometheus.over(
                total_rate("model_tokens_generated_total", w, ["model"]), span, lambda m: m["model"]
            ),
            "first_token": prometheus.over(
                quantile(0.95, "gateway_time_to_first_token_seconds", w, ["model"]), span, lambda m: m["model"]
            ),
            "hits": prometheus.over("avg by (model) (model_cache_hit_rate)", span, lambda m: m["model"]),
            "inference": prometheus.over(quantile(0.95, inference, w, ["model"]), span, lambda m: m["model"]),
        },
    )
