"""What the pages ask Prometheus, each a value of its own, so that pages only draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from dashboard.hosts import Host, hosts
from dashboard.prometheus import Firing, Prometheus, Span, by_label, increase, quantile, total_rate

TASKS, FAILED = (f'cluster_{name}_tasks_total{{kind="inference"}}' for name in ("total", "failed"))
NEWEST = 'max(timestamp(up{job="gateway"} == 1))'
UP = "max by (worker) (worker_up)"
ROLLOUT = "cluster_rollout_state == 1"
TARGETS_DOWN = "up == 0"


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
    energy: float | None  # kWh that cards drew within the span; None: none tells
    firing: tuple[Firing, ...]  # alerts
    rollout: str | None  # what the last one came to: the label `state` of cluster_rollout_state
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
    first_token: float | None  # seconds, 95 % of the streamed answers within
    hits: float | None  # share of the last requests that found it in memory


@dataclass(frozen=True, slots=True)
class Models:
    newest: float | None
    models: tuple[Model, ...]
    charts: Mapping[str, pd.DataFrame]


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
            "energy": f"sum_over_time(sum(worker_gpu_power_watts)[{whole}:{span.step}s]) * {span.step} / 3.6e6",
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
        energy=one["energy"],
        firing=prometheus.firing(),
        hosts=hosts(prometheus, w),
        rollout=next((s.labels["state"] for s in prometheus.instant(ROLLOUT)), None),
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
            "in_flight": pd.concat(
                [
                    prometheus.over(f"sum (avg_over_time(gateway_in_flight[{w}]))", span, lambda _: "on a worker"),
                    prometheus.over(f"sum (avg_over_time(gateway_queue_length[{w}]))", span, lambda _: "waiting"),
                ],
                ignore_index=True,
            ),
        },
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
                ("heat", "max by (worker, gpu) (worker_gpu_temperature_celsius)", _card),
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
    requests_, tokens, generated, p50, p95, load, first, hits = (
        by_label(prometheus.instant(query), "model")
        for query in (
            total_rate(f"{inference}_count", w, ["model"]),
            total_rate("model_tokens_generated_total", w, ["model"]),
            increase("model_tokens_generated_total", whole, ["model"]),
            quantile(0.5, inference, whole, ["model"]),
            quantile(0.95, inference, whole, ["model"]),
            "sum by (model) (model_load_time_seconds_sum) / sum by (model) (model_load_time_seconds_count)",
            quantile(0.95, "gateway_time_to_first_token_seconds", whole, ["model"]),
            "avg by (model) (model_cache_hit_rate)",
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
                first.get(name),
                hits.get(name),
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
            "queue": prometheus.over(
                f"sum by (model) (avg_over_time(gateway_queue_length[{w}]))", span, lambda m: m["model"]
            ),
            "inference": prometheus.over(quantile(0.95, inference, w, ["model"]), span, lambda m: m["model"]),
        },
    )
