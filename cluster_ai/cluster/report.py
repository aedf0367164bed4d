"""What a worker says of itself in its heartbeats, as data; written by worker_plugin.py, read by membership.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

METRIC = "cluster_ai"  # key in Dask's worker metrics
TASKS = "cluster_ai_tasks"  # the scheduler's handler that tells how many tasks ended, and what cordoned workers hold
CORDON = "cluster_ai_cordon"  # its handler that is told which workers are cordoned


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int
    name: str
    memory_used: int  # bytes
    memory_total: int
    usage: float | None  # 0..1; None: the card doesn't say
    temperature: float | None = None  # degrees Celsius; None: as above, or a worker of an older release


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in the engine's memory; size_vram of size is on cards."""

    name: str
    size: int
    size_vram: int


@dataclass(frozen=True, slots=True)
class Report:
    """cpu is None before the first interval is over; engine_error is empty while the engine answers."""

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


def dump(report: Report) -> dict[str, Any]:
    return asdict(report)


def parse(value: Any) -> Report | None:
    """None where it isn't one: another version's, or no plugin's."""
    if not isinstance(value, Mapping):
        return None
    try:
        fields = dict(value)
        fields["gpus"] = tuple(Gpu(**g) for g in fields["gpus"])
        fields["loaded"] = tuple(Loaded(**m) for m in fields["loaded"])
        return Report(**fields)
    except (KeyError, TypeError):
        return None
