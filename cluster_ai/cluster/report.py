"""What a worker says of itself in its heartbeats, as data; written by worker_plugin.py, read by membership.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from typing import Any

METRIC = "cluster_ai"  # key in Dask's worker metrics
TASKS = "cluster_ai_tasks"  # the scheduler's handler: how many tasks ended, what cordoned workers hold, who is silent
CORDON = "cluster_ai_cordon"  # its handler that is told which workers are cordoned
SLEEP = "cluster_ai_sleep"  # the handler of a standby host's first worker process that lets the host sleep
PROCESSES = "cluster_ai_processes"  # the handler of a host's first worker process that begins others


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int
    name: str
    memory_used: int | None  # bytes; None: it has none of its own (unified memory), it shares the host's
    memory_total: int | None
    usage: float | None  # 0..1; None: the card doesn't say
    temperature: float | None = None  # degrees Celsius; None: as above, or a worker of an older release
    power: float | None = None  # watts; likewise
    uuid: str | None = None  # as CUDA knows it; None: a worker of an older release


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in the engine's memory; size_vram of size is on cards."""

    name: str
    size: int
    size_vram: int


@dataclass(frozen=True, slots=True)
class Network:
    """One that is up, not the loopback. speed: Mbit/s; None: it doesn't say."""

    name: str
    addresses: tuple[str, ...]
    speed: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """cpu is None before the first interval is over; engine_error is empty while the engine answers.

    cpus, memory_limit: what the host and its cgroups let the worker have; memory_total is the host's. isolation: why
    tasks get no cgroups of their own; empty where they do. What an older worker doesn't say has a default.
    """

    worker: str
    at: float  # seconds since 1970
    cpu: float | None  # 0..1, of the host
    cores: int
    memory_used: int
    memory_total: int
    disk_free: int
    gpus: tuple[Gpu, ...]
    engine_version: str
    engine_error: str
    loaded: tuple[Loaded, ...]
    cpus: float | None = None
    memory_limit: int | None = None
    disk_total: int | None = None
    networks: tuple[Network, ...] = ()
    release: str | None = None  # its digest; None: the host has none
    isolation: str | None = None


_FIELDS, _CARD = ({f.name for f in fields_of(kind)} for kind in (Report, Gpu))


def dump(report: Report) -> dict[str, Any]:
    return asdict(report)


def parse(value: Any) -> Report | None:
    """None where it isn't one: another version's, or no plugin's."""
    if not isinstance(value, Mapping):
        return None
    try:
        fields = {name: value[name] for name in _FIELDS & value.keys()}
        fields["gpus"] = tuple(Gpu(**{name: g[name] for name in _CARD & g.keys()}) for g in fields["gpus"])
        fields["loaded"] = tuple(Loaded(**m) for m in fields["loaded"])
        fields["networks"] = tuple(
            Network(**{**n, "addresses": tuple(n["addresses"])}) for n in fields.get("networks", ())
        )
        return Report(**fields)
    except (AttributeError, KeyError, TypeError):
        return None
