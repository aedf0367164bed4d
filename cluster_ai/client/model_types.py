"""What the gateway answers of models: field by field as its OpenAPI description has it; sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ModelCopy:
    worker: str
    state: Literal["loaded", "loading", "present", "missing"]
    reason: str | None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    name: str
    size: int | None
    digest: str | None
    family: str | None
    parameter_size: str | None
    quantization: str | None
    context: int | None
    replicas: int
    present: tuple[str, ...]
    loaded: tuple[str, ...]
    context_limit: int | None
    license: str | None
    source: str | None
    memory: int | None
    workers: tuple[ModelCopy, ...]


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    total: int
    weights: int | None
    cache: int | None
    why: str


@dataclass(frozen=True, slots=True)
class WorkerReason:
    worker: str
    state: Literal["loaded", "loading", "present", "missing"] | None
    holds: bool
    processor: Literal["gpu", "cpu"] | None
    free_gpu: int | None
    free_ram: int | None
    tokens_per_second: float | None
    why: str


@dataclass(frozen=True, slots=True)
class ModelExplanation:
    name: str
    memory: MemoryNeed
    replicas: int | None
    workers: tuple[WorkerReason, ...]


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    at: str
    kind: Literal["replicas", "processes", "power"]
    name: str  # of a model, or of a worker
    before: int
    after: int
    reason: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class WorkerOutcome:
    worker: str
    done: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class ModelChange:
    model: str
    workers: tuple[WorkerOutcome, ...]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    name: str
    context: int | None
    source: Literal["cluster.yaml", "api", "engine"]
    options: dict[str, str | list[str]]
    system: str | None
    template: str | None
    capabilities: tuple[str, ...]
