"""What the pages ask Prometheus, each a value of its own, so that pages only draw."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from dashboard import hosts
from dashboard.hosts import Host
from dashboard.prometheus import Firing, Lines, Prometheus, Sample, Span, by_label, increase, quantile, total_rate

TASKS, FAILED = (f'cluster_{name}_tasks_total{{kind="inference"}}' for name in ("total", "failed"))
NEWEST = 'max(timestamp(up{job="gateway"} == 1))'
UP = "max by (worker) (worker_up)"
ROLLOUT = "cluster_rollout_state == 1"
TARGETS_DOWN = "up == 0 unless on (worker) worker_asleep == 1"


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
    wanted: float | None  # replicas that the autoscaler wants now; None: it isn't scaled


@dataclass(frozen=True, slots=True)
class Models:
    newest: float | None
    models: tuple[Model, ...]
    charts: Mapping[str, pd.DataFrame]


def overview(prometheus: Prometheus, span: Span) -> Overview:
    w, whole = span.rate_window, f"{span.seconds}s"
    rate, response = total_rate("model_tokens_generated_total", w, ["model"]), "cluster_response_time_seconds"
    told = prometheus.instants(
        {
            "newest": NEWEST,
            "up": UP,
            "down": TARGETS_DOWN,
            "rollout": ROLLOUT,
            "requests": total_rate(TASKS, w),
            "tokens": total_rate("model_tokens_generated_total", w),
            "p50": quantile(0.5, response, w),
            "p95": quantile(0.95, response, w),
            "finished": increase(TASKS, whole),
            "failed": increase(FAILED, whole),
            "energy": f"sum_over_time(sum(worker_gpu_power_watts)[{whole}:{span.step}s]) * {span.step} / 3.6e6",
            "failovers": increase("gateway_failovers_total", whole),
            **hosts.queries(w),
        }
    )
    up = by_label(told["up"], "worker")
    return Overview(
        newest=_value(told["newest"]),
        workers_up=sum(1 for value in up.values() if value),
        workers_down=tuple(sorted(name for name, value in up.items() if not value)),
        targets_down=tuple(
            sorted(
                f"{s.labels.get('job', '?')} on {s.labels.get('host', s.labels.get('instance', '?'))}"
                for s in told["down"]
            )
        ),
        requests=_value(told["requests"]),
        tokens=_value(told["tokens"]),
        p50=_value(told["p50"]),
        p95=_value(told["p95"]),
        finished=_value(told["finished"]) or 0.0,
        failed=_value(told["failed"]) or 0.0,
        failovers=_value(told["failovers"]) or 0.0,
        energy=_value(told["energy"]),
        firing=prometheus.firing(),
        hosts=hosts.read(told),
        rollout=next((s.labels["state"] for s in told["rollout"]), None),
        charts=prometheus.charts(
            {
                "requests": [
                    Lines(total_rate(TASKS, w), lambda _: "all"),
                    Lines(total_rate(FAILED, w), lambda _: "failed"),
                ],
                "tokens": [Lines(rate, _model)],
                "response": [
                    Lines(quantile(0.5, response, w), lambda _: "half of the answers"),
                    Lines(quantile(0.95, response, w), lambda _: "95 % of the answers"),
                ],
                "in_flight": [
                    Lines(f"sum (avg_over_time(gateway_in_flight[{w}]))", lambda _: "on a worker"),
                    Lines(f"sum (avg_over_time(gateway_queue_length[{w}]))", lambda _: "waiting"),
                ],
            },
            span,
        ),
    )


def workers(prometheus: Prometheus, span: Span) -> Workers:
    w = span.rate_window
    numbers = {
        "up": UP,
        "cpu": "max by (worker) (worker_cpu_usage)",
        "memory": "max by (worker) (worker_memory_usage)",
        "total": "max by (worker) (worker_memory_capacity)",
        "gpu": "sum by (worker) (worker_gpu_memory)",
        "gpu_total": "sum by (worker) (worker_gpu_memory_capacity)",
        "tasks": "sum by (worker) (worker_active_tasks)",
        "tokens": total_rate("model_tokens_generated_total", w, ["worker"]),
    }
    told = prometheus.instants({"newest": NEWEST, "loaded": "worker_model_loaded == 1", **numbers, **hosts.queries(w)})
    up, cpu, memory, total, gpu, gpu_total, tasks, tokens = (by_label(told[key], "worker") for key in numbers)
    loaded: dict[str, list[str]] = {}
    for sample in told["loaded"]:
        loaded.setdefault(sample.labels["worker"], []).append(sample.labels["model"])
    return Workers(
        newest=_value(told["newest"]),
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
                loaded=tuple(sorted(loaded.get(name, ()))),
            )
            for name in sorted({*up, *cpu})
        ),
        hosts=hosts.read(told),
    )


def charts_of_workers(prometheus: Prometheus, span: Span, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Of these workers alone: hundreds would be fetched for nothing, since nobody can tell so many lines apart."""
    w, of = span.rate_window, "{worker=~" + json.dumps("|".join(map(re.escape, names))) + "}"
    return prometheus.charts(
        {
            "cpu": [Lines(f"max by (worker) (worker_cpu_usage{of})", _worker)],
            "memory": [Lines(f"max by (worker) (worker_memory_usage{of})", _worker)],
            "gpu_memory": [Lines(f"sum by (worker, gpu) (worker_gpu_memory{of})", _card)],
            "heat": [Lines(f"max by (worker, gpu) (worker_gpu_temperature_celsius{of})", _card)],
            "tasks": [Lines(f"sum by (worker) (avg_over_time(worker_active_tasks{of}[{w}]))", _worker)],
            "tokens": [Lines(total_rate(f"model_tokens_generated_total{of}", w, ["worker"]), _worker)],
        },
        span,
    )


def _value(samples: Sequence[Sample]) -> float | None:
    """Of an answer with at most one series."""
    return samples[0].value if samples else None


def _model(labels: Mapping[str, str]) -> str:
    return labels.get("model", "?")


def _worker(labels: Mapping[str, str]) -> str:
    return labels.get("worker", "?")


def _card(labels: Mapping[str, str]) -> str:
    return f"{labels.get('worker', '?')} card {labels.get('gpu', '?')}"


def models(prometheus: Prometheus, span: Span) -> Models:
    w, whole = span.rate_window, f"{span.seconds}s"
    inference, first = "model_inference_time_seconds", "gateway_time_to_first_token_seconds"
    rate = total_rate("model_tokens_generated_total", w, ["model"])
    numbers = {
        "requests": total_rate(f"{inference}_count", w, ["model"]),
        "tokens": rate,
        "generated": increase("model_tokens_generated_total", whole, ["model"]),
        "p50": quantile(0.5, inference, whole, ["model"]),
        "p95": quantile(0.95, inference, whole, ["model"]),
        "load": "sum by (model) (model_load_time_seconds_sum) / sum by (model) (model_load_time_seconds_count)",
        "first": quantile(0.95, first, whole, ["model"]),
        "hits": "avg by (model) (model_cache_hit_rate)",
        "wanted": "max by (model) (model_replicas_wanted)",
    }
    told = prometheus.instants({"newest": NEWEST, **numbers})
    requests, tokens, generated, p50, p95, load, begun, hits, wanted = (by_label(told[key], "model") for key in numbers)
    return Models(
        newest=_value(told["newest"]),
        models=tuple(
            Model(
                name,
                requests.get(name),
                tokens.get(name),
                generated.get(name),
                p50.get(name),
                p95.get(name),
                load.get(name),
                begun.get(name),
                hits.get(name),
                wanted.get(name),
            )
            for name in sorted({*requests, *tokens, *wanted})
        ),
        charts=prometheus.charts(
            {
                "tokens": [Lines(rate, _model)],
                "first_token": [Lines(quantile(0.95, first, w, ["model"]), _model)],
                "queue": [Lines(f"sum by (model) (avg_over_time(gateway_queue_length[{w}]))", _model)],
                "inference": [Lines(quantile(0.95, inference, w, ["model"]), _model)],
            },
            span,
        ),
    )
