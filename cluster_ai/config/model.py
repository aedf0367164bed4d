"""cluster.yaml as frozen dataclasses: the only form in which any other module sees the configuration.

Sizes are bytes, durations are seconds. Defaults stand in the schema (schema.py), not here: the reference page has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cluster_ai.addresses import in_url

Role = Literal["head", "worker"]
Strategy = Literal["rolling", "canary", "blue-green"]
Sleep = Literal["suspend", "poweroff"]
Quantization = Literal["q4_K_M", "q8_0"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a worker has."""

    cpu: int  # cores
    memory: int  # bytes
    gpu: int  # cards
    gpu_memory: int | None  # bytes of all cards together; None: not said


@dataclass(frozen=True, slots=True)
class Scheduler:
    host: str
    port: int
    dashboard_port: int


@dataclass(frozen=True, slots=True)
class Standby:
    """A worker that sleeps while it isn't needed. wake: a command on the head host, where there is no mac."""

    mac: str | None
    wake: tuple[str, ...]
    broadcast: str | None  # None: the networks of the head host
    sleep: Sleep
    idle: float  # seconds
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Worker:
    name: str
    host: str  # defaults to name
    resources: Resources
    labels: Mapping[str, str]
    speeds: Mapping[str, float] = field(default_factory=dict)  # model -> tokens per second of one answer, as measured
    standby: Standby | None = None  # None: it never sleeps


@dataclass(frozen=True, slots=True)
class Window:
    """A time of the week with at least so many replicas. begin, end: minutes of the day; days: 0 is Monday."""

    days: tuple[int, ...]
    begin: int
    end: int
    replicas: int


@dataclass(frozen=True, slots=True)
class Scale:
    """How a model's replicas grow beyond `replicas`. Durations are seconds."""

    max: int
    in_flight: int | None  # requests at once for a replica; None: engine.parallel
    queue_time: float | None
    cool_down: float
    idle: float | None
    ahead: float
    schedule: tuple[Window, ...]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    replicas: int | Literal["all"]
    memory: int | None  # bytes one replica needs (resources.gpu_memory or resources.memory); None: not said
    source: Path | None  # a local GGUF file; None: Ollama's registry, by name
    options: Mapping[str, int | float | str | bool]  # Ollama's runtime options, such as num_ctx
    quantize: Quantization | None = None  # what the engine makes of source's weights; None: as they are
    scale: Scale | None = None  # None: `replicas`, always


@dataclass(frozen=True, slots=True)
class Ssh:
    """How hosts are reached; what is None is left to OpenSSH's own configuration."""

    user: str | None
    port: int | None
    key: Path | None
    known_hosts: Path | None
    jump: str | None


@dataclass(frozen=True, slots=True)
class Engine:
    version: str
    source: (
        str | None
    )  # URL of a release archive, or path of an archive or of a binary; None: the known release of `version`
    sha256: str | None
    parallel: int  # requests at once per model and worker
    context_length: int  # tokens, where the model's options don't say
    keep_alive: float  # seconds a model stays loaded unused
    kv_cache_type: Literal["f16", "q8_0", "q4_0"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the gateway. None: no limit. The first three are each user's."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_concurrent: int | None
    queue: int  # requests that wait for a slot of one model
    max_wait: float  # seconds
    max_body: int  # bytes
    request_timeout: float | None  # seconds


@dataclass(frozen=True, slots=True)
class Gateway:
    port: int
    policy: Literal["affinity", "least_loaded", "resource_aware", "round_robin"]
    trusted_networks: tuple[str, ...]  # CIDR; requests from there need no token
    context: Literal["truncate", "refuse"]  # what becomes of prompts that are too long
    limits: Limits


@dataclass(frozen=True, slots=True)
class Canary:
    """Who goes first, and how much worse they may be. Shares are 0..1; an increase may be more."""

    hosts: int | float | tuple[str, ...]  # a number, a share of the workers (0..1), or names
    bake: float  # seconds; 0: they aren't judged
    max_error_rate: float
    max_latency_increase: float
    max_speed_loss: float


@dataclass(frozen=True, slots=True)
class Policy:
    """How the workers of one group change."""

    strategy: Strategy
    max_unavailable: int | float  # workers, or a share of the group's (0..1) where written as a percentage
    pause: float  # seconds between waves
    canary: Canary


@dataclass(frozen=True, slots=True)
class Rollout:
    policy: Policy  # of workers in no group of `groups`
    groups: Mapping[str, Policy]  # by name of a group of the inventory, in their order; the first that a worker is in
    drain_timeout: float  # seconds
    keep_releases: int
    gate_timeout: float  # seconds


@dataclass(frozen=True, slots=True)
class Tasks:
    data: str | None  # absolute path on every worker, of what data_processing tasks may read


@dataclass(frozen=True, slots=True)
class Processes:
    """Dask worker processes of each host. cool_down: seconds."""

    min: int
    max: int
    cool_down: float
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Scaling:
    processes: Processes | None = None  # None: one


@dataclass(frozen=True, slots=True)
class Mail:
    to: tuple[str, ...]
    sender: str
    server: str  # host:port
    user: str | None  # None: nobody logs in


@dataclass(frozen=True, slots=True)
class Alerts:
    """Who is told of alerts."""

    port: int  # Alertmanager
    webhook: str | None  # URL
    mail: Mail | None

    @property
    def told(self) -> bool:
        """Whether there is anybody to tell: without, there is no Alertmanager."""
        return self.webhook is not None or self.mail is not None


@dataclass(frozen=True, slots=True)
class Monitoring:
    port: int  # Prometheus
    scrape_interval: float  # seconds
    retention: float  # seconds
    traces: str | None  # base URL of an OTLP receiver
    alerts: Alerts


@dataclass(frozen=True, slots=True)
class Interface:
    dashboard: bool
    dashboard_port: int
    open_webui: bool
    open_webui_port: int


@dataclass(frozen=True, slots=True)
class Packages:
    """Where hosts get Debian packages from."""

    source: Literal["distribution", "mirror", "bundle"]
    mirror: str | None  # URL, for source: mirror


@dataclass(frozen=True, slots=True)
class Opening:
    """Ports of every host that are open beside the cluster's."""

    ports: str  # "8000", or "60000-61000"
    protocol: Literal["tcp", "udp"]
    source: str | None  # address, network or host name that may reach them; None: anyone


@dataclass(frozen=True, slots=True)
class Firewall:
    manage: bool
    allow: tuple[Opening, ...]


@dataclass(frozen=True, slots=True)
class Tls:
    """Of gateway and dashboard, towards people."""

    enabled: bool = True
    names: tuple[str, ...] = ()  # of the head host, beside those that it has anyway
    certificate: Path | None = None  # None: the cluster's own for the head host


@dataclass(frozen=True, slots=True)
class Oidc:
    """An OpenID provider. roles: role -> values of role_claim that give it."""

    issuer: str
    client_id: str
    cli_client_id: str
    name_claim: str
    role_claim: str
    roles: Mapping[str, tuple[str, ...]]
    session: float  # seconds


@dataclass(frozen=True, slots=True)
class Security:
    """Where the vault's password is, when the environment doesn't say."""

    vault_password_file: Path | None = None
    vault_password_command: str | None = None
    tls: Tls = Tls()
    oidc: Oidc | None = None


@dataclass(frozen=True, slots=True)
class Config:
    path: Path  # the file it was read from; relative paths in it are resolved against its folder
    version: str
    name: str
    scheduler: Scheduler
    workers: tuple[Worker, ...]
    models: tuple[Model, ...]
    ssh: Ssh
    engine: Engine
    gateway: Gateway
    rollout: Rollout
    tasks: Tasks
    scaling: Scaling
    monitoring: Monitoring
    interface: Interface
    packages: Packages
    firewall: Firewall
    security: Security

    @property
    def gateway_url(self) -> str:
        """Where clients reach the gateway."""
        return self._public(self.gateway.port)

    @property
    def dashboard_url(self) -> str:
        return self._public(self.interface.dashboard_port)

    @property
    def open_webui_url(self) -> str:
        return self._public(self.interface.open_webui_port)

    def _public(self, port: int) -> str:
        scheme = "https" if self.security.tls.enabled else "http"
        return f"{scheme}://{in_url(self.scheduler.host)}:{port}"


@dataclass(frozen=True, slots=True)
class Host:
    """A machine, with all that runs on it.

    Its name is the worker's name, or the scheduler's host where no worker lives there.
    """

    name: str
    address: str
    roles: frozenset[Role]
    worker: Worker | None
    names: tuple[str, ...] = ()  # that people reach it by, too

    @property
    def sans(self) -> tuple[str, ...]:
        """Every name that its certificate holds for."""
        return (self.address, self.name, *self.names, "localhost", "127.0.0.1", "::1")


def hosts(config: Config) -> tuple[Host, ...]:
    """Every machine of the cluster, the head host first. A worker at the scheduler's address shares its machine."""
    address = config.scheduler.host
    shared = next((w for w in config.workers if w.host == address), None)
    head = Host(
        shared.name if shared else address,
        address,
        frozenset({"head", "worker"} if shared else {"head"}),
        shared,
        config.security.tls.names,
    )
    rest = (Host(w.name, w.host, frozenset({"worker"}), w) for w in config.workers if w is not shared)
    return (head, *rest)
