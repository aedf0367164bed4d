"""What the gateway answers. Field by field as its OpenAPI description has it; times are UTC, sizes bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
Mode = Literal["auto", "local", "distributed"]


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of an answer that is coming in."""

    text: str


@dataclass(frozen=True, slots=True)
class Routing:
    mode: Literal["local", "distributed"]
    reason: str
    worker: str


@dataclass(frozen=True, slots=True)
class TokenUsage:
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the cluster knows of an answer. Times are seconds."""

    model: str
    done: bool
    done_reason: str | None
    worker: str
    routing: Routing
    time_to_first_token: float
    tokens_per_second: float | None
    load_time: float | None
    total_time: float
    usage: TokenUsage
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateReply(Figures):
    response: str


@dataclass(frozen=True, slots=True)
class SessionTurn:
    id: str
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply(Figures):
    message: Message
    session: SessionTurn | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    id: str
    title: str
    model: str | None
    system: str | None
    created: str
    used: str
    turns: int


@dataclass(frozen=True, slots=True)
class SessionMessage:
    role: Role
    content: str
    at: str
    worker: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionHistory(SessionInfo):
    messages: tuple[SessionMessage, ...]


@dataclass(frozen=True, slots=True)
class TemplateInfo:
    name: str
    text: str
    system: str | None
    description: str
    shared: bool
    variables: tuple[str, ...]
    changed: str


@dataclass(frozen=True, slots=True)
class Rendered:
    text: str
    system: str | None


@dataclass(frozen=True, slots=True)
class GpuInfo:
    index: int
    name: str
    memory_used: int | None
    memory_total: int | None
    usage: float | None
    temperature: float | None = None
    power: float | None = None


@dataclass(frozen=True, slots=True)
class CordonInfo:
    reason: str
    since: str
    drained: bool
    tasks: int | None
    results: int | None
    untold: str | None


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """speed: Mbit/s."""

    name: str
    addresses: tuple[str, ...]
    speed: int | None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    name: str
    state: str
    reason: str | None
    in_flight: int
    slots: int
    dask_tasks: int | None
    placed: tuple[str, ...]
    models: tuple[str, ...]
    loaded: tuple[str, ...]
    engine_version: str | None
    cpu: float | None
    memory_used: int | None
    memory_total: int | None
    cpus: float | None
    memory_limit: int | None
    disk_free: int | None
    disk_total: int | None
    gpu: tuple[GpuInfo, ...]
    networks: tuple[NetworkInfo, ...]
    release: str | None
    reported: str | None
    dask: Literal["present", "silent", "absent"] | None
    isolation: Literal["cgroup", "process"] | None
    isolation_reason: str | None
    warnings: tuple[str, ...]
    cordon: CordonInfo | None


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    name: str
    in_flight: int
    requests_ok: int
    requests_failed: int
    tokens_total: int
    tokens_per_second: float | None
    response_time_p50: float | None
    response_time_p95: float | None
    time_to_first_token_p50: float | None
    time_to_first_token_p95: float | None


@dataclass(frozen=True, slots=True)
class Status:
    cluster: str
    total_workers: int
    active_workers: int
    active_tasks: int
    cpu_utilization: float | None
    memory_usage: float | None
    gpu_available: int
    scheduler_connected: bool
    scheduler_reason: str | None
    workers: tuple[WorkerInfo, ...]


@dataclass(frozen=True, slots=True)
class Latency:
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Metrics:
    window_seconds: float
    requests_per_second: float
    tokens_per_second: float
    errors_per_second: float
    response_time: Latency
    time_to_first_token: Latency
    in_flight: int
    requests_total: int
    errors_total: int
    tokens_total: int
    inferences_total: int
    failovers_total: int


UserRole = Literal["viewer", "user", "operator", "admin", "service"]  # the last of keys alone: a program for people


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """None: as cluster.yaml has it for every user; 0: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    name: str
    priority: int
    role: UserRole
    limits: KeyLimits
    models: tuple[str, ...] | None
    created: str
    ends: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey(KeyInfo):
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInfo:
    """models: the only ones that they may use; None: all."""

    name: str
    role: UserRole
    priority: int
    limits: KeyLimits
    models: tuple[str, ...] | None
    created: str
    oidc: bool  # an OpenID provider vouches for them
    logins: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoAmI:
    name: str
    role: UserRole
    models: tuple[str, ...] | None
    may: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    requests: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLine(Sum):
    day: str | None
    user: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class UsageReply:
    first: str
    last: str
    lines: tuple[UsageLine, ...]
    total: Sum


TaskKind = Literal["ai_inference", "data_processing", "custom"]


@dataclass(frozen=True, slots=True)
class TaskInfo:
    id: str
    kind: str
    state: Literal["queued", "sent", "done", "failed", "cancelled"]
    user: str
    attempt: int
    worker: str | None
    error: str | None
    progress: float | None
    progress_text: str | None
    result_file: str | None
    submitted: str
    ended: str | None
    cpu: int
    memory: int
    gpu: int
    timeout: float
    retries: int
    priority: int
    tags: tuple[str, ...]
    idempotent: bool


@dataclass(frozen=True, slots=True)
class ResultFile:
    """`GET /v1/files/{id}/content` has it. expires_at: seconds since 1970."""

    id: str
    filename: str
    bytes: int
    sha256: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Of result and file one is None where the other is enough."""

    id: str
    result: Any
    file: ResultFile | None
