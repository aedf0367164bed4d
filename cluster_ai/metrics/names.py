"""Every metric of the gateway in one table; the gateway registers from it, docs/metrics.md is made from it.

A "task" is one inference request that the gateway took in (kind="inference"), or one Dask task (kind="dask"); the two
are kept apart by the label, because their counters restart with different processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """name is what Prometheus shows, less the suffixes _bucket, _sum and _count of histograms."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_RUNS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)

ACTIVE_WORKERS = Metric("cluster_active_workers", "gauge", "Workers that take requests now.")
TOTAL_TASKS = Metric(
    "cluster_total_tasks_total",
    "counter",
    "Tasks that ended: inference requests through this gateway (kind=inference), Dask tasks (kind=dask; absent "
    "while the scheduler is away or counts none).",
    ("kind",),
)
FAILED_TASKS = Metric(
    "cluster_failed_tasks_total",
    "counter",
    "Tasks that failed through the cluster's fault: answers of 500 and above, broken streams, Dask tasks that erred. "
    "A client's own mistake (4xx) or leaving is no failure.",
    ("kind",),
)
RESPONSE_TIME = Metric(
    "cluster_response_time_seconds",
    "histogram",
    "From an inference request's arrival to the end of its answer, all models.",
    (),
    _RUNS,
)
SCHEDULER_UP = Metric("cluster_scheduler_up", "gauge", "1 while the Dask scheduler answers the gateway.")

WORKER_UP = Metric("worker_up", "gauge", "1 while the worker's engine answers the gateway's checks.", ("worker",))
WORKER_CPU = Metric("worker_cpu_usage", "gauge", "Share of the host's processor time in use, 0 to 1.", ("worker",))
WORKER_MEMORY = Metric("worker_memory_usage", "gauge", "Bytes of the host's memory in use.", ("worker",))
WORKER_MEMORY_CAPACITY = Metric("worker_memory_capacity", "gauge", "Bytes of memory that the host has.", ("worker",))
WORKER_GPU_MEMORY = Metric(
    "worker_gpu_memory", "gauge", "Bytes of a card's memory in use; none where it shares the host's.", ("worker", "gpu")
)
WORKER_GPU_MEMORY_CAPACITY = Metric(
    "worker_gpu_memory_capacity", "gauge", "Bytes of memory that a card has of its own.", ("worker", "gpu")
)
WORKER_GPU_USAGE = Metric(
    "worker_gpu_usage", "gauge", "Share of time in which a card was busy, 0 to 1.", ("worker", "gpu")
)
WORKER_GPU_TEMPERATURE = Metric(
    "worker_gpu_temperature_celsius", "gauge", "How hot a card is, where it tells.", ("worker", "gpu")
)
WORKER_GPU_POWER = Metric("worker_gpu_power_watts", "gauge", "What a card draws, where it tells.", ("worker", "gpu"))
WORKER_TASKS = Metric(
    "worker_active_tasks",
    "gauge",
    "What a worker is doing now: requests in flight through this gateway plus Dask tasks that it executes.",
    ("worker",),
)
WORKER_MODEL_LOADED = Metric(
    "worker_model_loaded",
    "gauge",
    "For each model that is on the worker: 1 when it is in memory, 0 when it is on disk only.",
    ("worker", "model"),
)

# What a rollout judges a worker by (rollout/analysis.py). They are the worker's own: a request that another worker
# answered in the end is an error here, though its client never saw one.
WORKER_REQUESTS = Metric(
    "worker_requests_total",
    "counter",
    "Inference requests that a worker answered (outcome=ok), or failed at (outcome=error): its engine erred, it was "
    "lost, its stream broke, whether or not another worker stepped in. A client's mistake or leaving is neither.",
    ("worker", "outcome"),
)
WORKER_RESPONSE_TIME = Metric(
    "worker_response_time_seconds",
    "histogram",
    "From sending a request to a worker to the end of its answer; requests with outcome=ok.",
    ("worker",),
    (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
WORKER_FIRST_TOKEN = Metric(
    "worker_time_to_first_token_seconds",
    "histogram",
    "From sending a request to a worker to the first byte of its stream; requests with outcome=ok.",
    ("worker",),
    (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
WORKER_TIMED_TOKENS = Metric(
    "worker_timed_tokens_total",
    "counter",
    "Tokens of answers of 16 tokens and more, whose time the engine told; by worker_eval_seconds_total: a speed.",
    ("worker", "model"),
)
WORKER_EVAL_SECONDS = Metric(
    "worker_eval_seconds_total",
    "counter",
    "Seconds that the engine took to generate worker_timed_tokens_total.",
    ("worker", "model"),
)

INFERENCE_TIME = Metric(
    "model_inference_time_seconds",
    "histogram",
    "The engine's own time for a request, prompt and answer, without loading the model.",
    ("model",),
    _RUNS,
)
TOKENS = Metric(
    "model_tokens_generated_total",
    "counter",
    "Tokens of finished answers, as the engine counts them.",
    ("model", "worker"),
)
LOAD_TIME = Metric(
    "model_load_time_seconds",
    "histogram",
    "Time to load a model, of the requests that had to wait for it.",
    ("model",),
    _RUNS,
)
CACHE_HIT_RATE = Metric(
    "model_cache_hit_rate",
    "gauge",
    "Share of the last 256 requests for a model that found it in memory (from the engine's load_duration), 0 to 1.",
    ("model",),
)

FIRST_TOKEN = Metric(
    "gateway_time_to_first_token_seconds",
    "histogram",
    "From a streaming request's arrival to the first byte of its answer.",
    ("model", "worker"),
    _WAITS,
)
INTER_TOKEN = Metric(
    "gateway_inter_token_seconds",
    "histogram",
    "The mean time from one token to the next, of each answer of two tokens and more: by the engine's clock, or where "
    "it tells none, from the first byte of a stream to the last.",
    ("model", "worker"),
    (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5),
)
REQUESTS = Metric(
    "gateway_requests_total",
    "counter",
    "Requests by route and answer; 499 is a client that left before the end.",
    ("route", "code"),
)
QUEUE_TIME = Metric(
    "gateway_queue_seconds",
    "histogram",
    "How long requests waited for a free slot of their model; 0 for those that found one.",
    ("model",),
    _WAITS,
)
QUEUE_LENGTH = Metric("gateway_queue_length", "gauge", "Requests that wait for a free slot of a model.", ("model",))
REFUSED = Metric(
    "gateway_refused_total",
    "counter",
    "Requests that were not let in: the queue was full (reason=queue_full), no slot became free in time "
    "(queue_timeout), or their user's limits were reached (user_limit).",
    ("reason",),
)
TOO_LONG = Metric(
    "gateway_prompts_too_long_total",
    "counter",
    "Prompts that were longer than their model's context, and were cut or refused for it.",
    ("model",),
)
IN_FLIGHT = Metric(
    "gateway_in_flight", "gauge", "Requests that a worker is answering through this gateway.", ("worker",)
)
FAILOVERS = Metric(
    "gateway_failovers_total",
    "counter",
    "Requests moved to another worker: before their first byte, unseen by the client (moment=start), or in the midst "
    "of their answer, which went on there (moment=stream).",
    ("moment",),
)
WORKER_FAILOVERS = Metric(
    "worker_failovers_total",
    "counter",
    "Requests that another worker took over from this one.",
    ("worker", "model"),
)
WORKER_STALLS = Metric(
    "worker_stalls_total",
    "counter",
    "Streams that were given up because nothing came for much longer than the model's own pace.",
    ("worker",),
)
WORKER_BREAKER = Metric(
    "worker_breaker_open",
    "gauge",
    "1 while a worker gets no requests because they failed there, 0.5 while one may try whether it is well again.",
    ("worker",),
)
WORKER_FLAWED = Metric(
    "worker_model_off_gpu",
    "gauge",
    "1 while a model that was placed on a worker's card seems to run on its CPU; others answer for it, if they can.",
    ("worker", "model"),
)

DRIFT = Metric(
    "cluster_drift",
    "gauge",
    "Things on a host that differ from what its release and the host layer made of it, when it last checked itself "
    "(kind=files, units, overrides, credentials, ports, packages).",
    ("kind",),
)
DRIFT_CHECKED = Metric(
    "cluster_drift_checked_timestamp_seconds", "gauge", "When the host last checked itself, in seconds since 1970."
)

CERTIFICATE_END = Metric(
    "cluster_certificate_end_timestamp_seconds",
    "gauge",
    "When a certificate on the host ends, in seconds since 1970, as of its last check of itself (certificate=host, "
    "people: the one that cluster.yaml names; issuing: the CA that renews hosts' certificates, on the head).",
    ("certificate",),
)

ROLLOUT_STATE = Metric(
    "cluster_rollout_state",
    "gauge",
    "1 for the state that the last rollout is in, 0 for the others (state=running, done, failed, returned, paused, "
    "interrupted, undone); from the head host. A controller that died is told as interrupted by the next one.",
    ("state",),
)
ROLLOUT_HOSTS = Metric("cluster_rollout_hosts", "gauge", "Hosts whose release the last rollout changes.")
ROLLOUT_STARTED = Metric(
    "cluster_rollout_started_timestamp_seconds", "gauge", "When the last rollout began, in seconds since 1970."
)

# Of each host, by its node_exporter; all others are the gateway's.
HOST_METRICS = (DRIFT, DRIFT_CHECKED, CERTIFICATE_END, ROLLOUT_STATE, ROLLOUT_HOSTS, ROLLOUT_STARTED)
MODEL_REPAIRS = Metric(
    "model_repairs_total",
    "counter",
    "What the gateway did so that models are served though workers are lost (do=load, fetch, release), and whether it "
    "could (result=done, failed).",
    ("model", "do", "result"),
)
MODEL_SHORT = Metric(
    "model_replicas_short",
    "gauge",
    "Replicas of lost workers that no other worker can take over now.",
    ("model",),
)
MODEL_WANTED = Metric(
    "model_replicas_wanted",
    "gauge",
    "Replicas that the autoscaler wants in memory now; absent for models without `scale` in cluster.yaml.",
    ("model",),
)
WORKER_ASLEEP = Metric(
    "worker_asleep", "gauge", "1 while a standby host was sent to sleep; only of standby hosts.", ("worker",)
)
WORKER_PROCESSES = Metric("worker_processes", "gauge", "Dask worker processes that the worker has.", ("worker",))
MODEL_READY = Metric(
    "model_replicas_ready", "gauge", "Active workers that have a model of cluster.yaml in memory.", ("model",)
)

METRICS = (
    ACTIVE_WORKERS,
    TOTAL_TASKS,
    FAILED_TASKS,
    RESPONSE_TIME,
    SCHEDULER_UP,
    WORKER_UP,
    WORKER_CPU,
    WORKER_MEMORY,
    WORKER_MEMORY_CAPACITY,
    WORKER_GPU_MEMORY,
    WORKER_GPU_MEMORY_CAPACITY,
    WORKER_GPU_USAGE,
    WORKER_GPU_TEMPERATURE,
    WORKER_GPU_POWER,
    WORKER_TASKS,
    WORKER_MODEL_LOADED,
    WORKER_REQUESTS,
    WORKER_RESPONSE_TIME,
    WORKER_FIRST_TOKEN,
    WORKER_TIMED_TOKENS,
    WORKER_EVAL_SECONDS,
    INFERENCE_TIME,
    TOKENS,
    LOAD_TIME,
    CACHE_HIT_RATE,
    FIRST_TOKEN,
    INTER_TOKEN,
    REQUESTS,
    QUEUE_TIME,
    QUEUE_LENGTH,
    REFUSED,
    TOO_LONG,
    IN_FLIGHT,
    FAILOVERS,
    WORKER_FAILOVERS,
    WORKER_STALLS,
    WORKER_BREAKER,
    WORKER_FLAWED,
    MODEL_REPAIRS,
    MODEL_SHORT,
    MODEL_WANTED,
    MODEL_READY,
    WORKER_PROCESSES,
    WORKER_ASLEEP,
)
