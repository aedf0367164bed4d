"""What each component on a host is told, as JSON in its release (etc/<component>.json).

Rendered by release/, read by the component. Keys and tokens are not in here: they are files in $CREDENTIALS_DIRECTORY,
under the names in layout.py.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlacedModel:
    """A model as one worker serves it."""

    name: str
    processor: Literal["gpu", "cpu"]
    blob: str | None  # SHA-256 of its GGUF file in layout.BLOBS; None: pulled from Ollama's registry
    options: dict[str, Any]  # written into the model by `create`
    quantize: str | None = None  # what `create` makes of the file's weights; None: as they are


@dataclass(frozen=True, slots=True)
class StandbySettings:
    """A host that sleeps while it isn't needed. mac: of the card that wakes it, else wake: a command on the head host.

    broadcast: where the magic packet goes; None: to all networks of the head host. idle: seconds.
    """

    mac: str | None
    wake: tuple[str, ...]
    broadcast: str | None
    idle: float
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Upstream:
    """A worker as the gateway reaches it."""

    name: str
    url: str  # https://host:11443, or http://127.0.0.1:port on one machine
    models: tuple[str, ...]  # placed there
    slots: int  # requests it runs at once
    gpu: int  # cards
    memory: int | None = None  # bytes for models: of its cards, or its own without cards; None: not said
    on_gpu: tuple[str, ...] = ()  # those of models that were placed on its cards
    gpu_room: int = 0  # bytes of its cards that models may take
    ram_room: int | None = None  # and of its RAM; None: not said
    standby: StandbySettings | None = None  # None: it never sleeps
    speeds: dict[str, float] = field(default_factory=dict)  # as cluster.yaml has them: model -> tokens per second


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """A time of the week with at least so many replicas. begin, end: minutes of the day; days: 0 is Monday."""

    days: tuple[int, ...]
    begin: int
    end: int
    replicas: int


@dataclass(frozen=True, slots=True)
class ScaleSettings:
    """As scaling.policy.Policy; durations are seconds. ahead: how far to look; dry_run: only tell."""

    min: int
    max: int
    in_flight: int
    queue_time: float | None
    cool_down: float
    idle: float | None
    ahead: float
    schedule: tuple[WindowSettings, ...]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model that cluster.yaml names, as the gateway knows it."""

    name: str
    replicas: int | None  # None: every worker where it fits
    memory: int  # bytes of one replica
    why: str  # where memory comes from
    weights: int | None  # bytes of that; None: not known apart
    cache: int | None
    source: str | None  # name of its GGUF file; None: Ollama's registry
    blob: str | None  # SHA-256 of that file, which is in GatewaySettings.blobs
    options: dict[str, Any]  # written into the model by `create`
    quantize: str | None = None  # as PlacedModel has it
    scale: ScaleSettings | None = None  # None: always `replicas`


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """As gateway.limits in cluster.yaml. None: no limit. The first three are each user's."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None
    queue: int = 512  # requests that wait for a slot of one model
    max_wait: float = 120.0  # seconds
    max_body: int = 64 * 1024 * 1024  # bytes
    request_timeout: float | None = None  # seconds


@dataclass(frozen=True, slots=True)
class Given:
    """A role, and the values of the claim that give it."""

    role: Literal["viewer", "user", "operator", "admin"]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """Who else says who people are: an OpenID provider."""

    issuer: str
    client: str  # of the dashboard
    cli_client: str  # of `cluster-ai login`
    name_claim: str
    role_claim: str
    roles: tuple[Given, ...]
    session: float  # seconds after which people must ask the provider again


# Which certificate a component shows to people: the host's own (layout.TLS), or the one that cluster.yaml names, among
# its credentials. None: it speaks plain HTTP.
Shown = Literal["host", "given"]


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    cluster: str
    host: str
    port: int
    policy: Literal["affinity", "least_loaded", "resource_aware", "round_robin"]
    trusted_networks: tuple[str, ...]
    scheduler: str  # tls://host:8786
    upstreams: tuple[Upstream, ...]
    models: dict[str, int]  # name -> num_ctx
    context: Literal["truncate", "refuse"] = "truncate"  # what becomes of prompts that are too long
    limits: LimitSettings = LimitSettings()
    traces: str | None = None  # base URL of an OTLP receiver; None: no tracing
    tasks: str | None = None  # path of the task manager's Unix socket; None: no tasks
    rollouts: str | None = None  # the folder of rollouts' records; None: there are none
    plan: str | None = None  # file with the last plan that was published; None: there is none
    catalog: tuple[CatalogModel, ...] = ()
    kv_cache: Literal["f16", "q8_0", "q4_0"] = "f16"  # precision of the engines' caches
    blobs: str | None = None  # folder of GGUF files, each named by its SHA-256
    prometheus: str | None = None  # its base URL; None: there is none
    lease: str | None = None  # file that says who changes the cluster now, as rollout/lease.py writes it
    oidc: OidcSettings | None = None
    shows: Shown | None = None  # to who comes to `port`; every other socket that it is handed speaks plain HTTP


@dataclass(frozen=True, slots=True)
class Processes:
    """How the first Dask worker process of a host begins others. cpu, memory: the share of each of those, in cores and
    bytes.

    contact: URL without port that others reach them by; listen: where they do; port: of the first, the others have
    those that follow. None: any port.
    """

    most: int  # the first among them
    cpu: int
    memory: int
    contact: str
    listen: str | None = None
    port: int | None = None
    nanny_ports: str = ""  # a range


@dataclass(frozen=True, slots=True)
class HostProcesses:
    """As the scheduler knows them."""

    name: str
    most: int
    cpu: int
    memory: int


@dataclass(frozen=True, slots=True)
class ProcessScale:
    """min: processes of each host at least. cool_down: seconds."""

    min: int
    cool_down: float
    dry_run: bool
    hosts: tuple[HostProcesses, ...]


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """For the Dask scheduler's plugin."""

    processes: ProcessScale


def process_name(worker: str, number: int) -> str:
    """What Dask calls a process of a worker's; the first has the worker's own name."""
    return worker if number == 1 else f"{worker}#{number}"


def worker_of(process: str) -> str:
    return process.partition("#")[0]


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """For the Dask worker and its plugin."""

    name: str
    scheduler: str
    engine_url: str
    cpu: int
    memory: int  # bytes
    gpu: int
    models: tuple[str, ...]
    data: str | None  # the folder that data_processing tasks read; None: there is none
    processes: Processes | None = None  # None: there is one
    standby: bool = False  # the head host may send this one to sleep


@dataclass(frozen=True, slots=True)
class TaskWorker:
    """A worker as tasks see it. memory is bytes; cpu and memory are one process's, of which there may be more."""

    name: str
    cpu: int
    memory: int
    gpu: int
    models: tuple[str, ...]
    data: bool  # whether it has a data folder
    processes: int = 1  # at most


@dataclass(frozen=True, slots=True)
class TasksSettings:
    scheduler: str
    socket: str  # path of the Unix socket that the gateway asks
    workers: tuple[TaskWorker, ...]


@dataclass(frozen=True, slots=True)
class Listener:
    port: int
    unit: str  # whose process listens there


@dataclass(frozen=True, slots=True)
class HostSettings:
    """For the host's own agent (cluster_ai.host): what must be true here before a release counts as healthy."""

    name: str
    roles: tuple[Literal["head", "worker"], ...]
    units: tuple[str, ...]  # those that run all the time
    listeners: tuple[Listener, ...]
    scheduler: str
    gateway_url: str | None  # on the head host
    prometheus_url: str | None  # on the head host
    dashboard_url: str | None  # on the head host
    open_webui_url: str | None  # on the head host
    engine: str | None  # on workers: its version, as the configuration says it
    engine_url: str | None  # on workers
    models: tuple[PlacedModel, ...]  # on workers


@dataclass(frozen=True, slots=True)
class Registered:
    """A host whose certificate is renewed."""

    name: str
    role: Literal["head", "worker"]
    sans: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    port: int
    hosts: tuple[Registered, ...]


@dataclass(frozen=True, slots=True)
class RenewSettings:
    issuer: str  # address of the head host
    port: int


@dataclass(frozen=True, slots=True)
class DashboardOidc:
    """redirect: where the provider sends a browser back to."""

    issuer: str
    client: str
    redirect: str


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    cluster: str
    address: str  # where it listens
    port: int
    host: str  # name or address that people know it by
    shows: Shown | None
    oidc: DashboardOidc | None
    gateway_url: str
    prometheus_url: str
    dask_url: str


@dataclass(frozen=True, slots=True)
class OpenWebuiOidc:
    """redirect: where the provider sends a browser back to. users, admins: values of the claim that give these roles
    there; every administrator is one of the users, too.
    """

    issuer: str
    client: str
    redirect: str
    role_claim: str
    users: tuple[str, ...]
    admins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenWebuiSettings:
    address: str  # where it listens
    port: int
    shows: Shown | None
    url: str  # where people reach it
    gateway_url: str
    oidc: OpenWebuiOidc | None


def dump(settings: Any) -> str:
    """JSON with sorted keys, so that the same settings are the same bytes."""
    return json.dumps(dataclasses.asdict(settings), indent=2, sort_keys=True) + "\n"


def load(kind: type[T], path: Path) -> T:
    """Read what `dump` wrote. Raises KeyError or TypeError when the file is not of this kind."""
    return typing.cast(T, _build(kind, json.loads(path.read_text())))


def _build(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        values = {f.name: _build(hints[f.name], value[f.name]) for f in dataclasses.fields(kind)}
        return typing.cast(Any, kind)(**values)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return tuple(_build(args[0], item) for item in value)
    if origin is types.UnionType:
        return None if value is None else _build(next(a for a in args if a is not type(None)), value)
    return value
