"""What one machine's cluster is: options in, a plan of processes out, the state that is left on disk. Plain data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cluster_ai.config.model import Processes
from cluster_ai.settings import LimitSettings

MODEL = "smollm2:135m"
MARKER = "CLUSTER_AI_LOCAL_ROOT"  # in the environment of every process that belongs to a cluster; its value is the root


@dataclass(frozen=True, slots=True)
class Ports:
    gateway: int = 11435
    dashboard: int = 8501
    dask: int = 8786
    dask_dashboard: int = 8787
    prometheus: int = 9090
    open_webui: int = 8502
    engines: int = 11440  # the first of those that engines and workers use inside; the next free ones are taken


@dataclass(frozen=True, slots=True)
class Options:
    root: Path  # the folder .cluster-ai
    ports: Ports = Ports()
    cluster: str = "local"
    policy: Literal["affinity", "least_loaded", "resource_aware", "round_robin"] = "affinity"
    dashboard: bool = True
    open_webui: bool = False
    parallel: int = 2
    context: int = 4096
    too_long: Literal["truncate", "refuse"] = "truncate"
    limits: LimitSettings = field(default_factory=LimitSettings)
    traces: str | None = None
    scrape_interval: float = 5.0
    retention: float = 15 * 24 * 3600.0
    processes: Processes | None = None  # None: one of each worker


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found here. None: not here."""

    memory: int  # bytes that can be had without swapping
    memory_total: int
    cores: int
    cards: int  # NVIDIA cards with a loaded driver
    prometheus: Path | None
    ollama: Path | None
    model: Path | None  # SmolLM2's GGUF file
    llama: bool  # whether llama.cpp's wheel is installed
    dashboard: Path | None  # the folder with app.py
    open_webui: Path | None  # the Python that has its packages
    sockets: Path  # a folder of this user's, with a short path


@dataclass(frozen=True, slots=True)
class Probe:
    """How it is seen that a component is ready: this URL answers 200, and its body contains all of `contains`."""

    url: str
    contains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A model that Ollama must have in memory before it counts as ready; made from a file where it isn't there yet."""

    url: str
    name: str
    path: str
    create: bool  # one of those who share a models folder makes it; the others wait for it


@dataclass(frozen=True, slots=True)
class Component:
    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    probe: Probe
    deadline: float  # seconds until it must be ready
    remedy: str  # what to do when it doesn't start
    model: OllamaModel | None = None


@dataclass(frozen=True, slots=True)
class Addresses:
    gateway: str
    dashboard: str | None
    prometheus: str | None
    open_webui: str | None
    dask: str
    dask_dashboard: str


@dataclass(frozen=True, slots=True)
class Plan:
    root: str
    addresses: Addresses
    workers: tuple[str, ...]
    engine: str  # "ollama" or "embedded"
    components: tuple[Component, ...]
    files: Mapping[str, str]  # path under local/ -> content
    lacks: tuple[str, ...]  # what this cluster does without, and how to get it

    def dump(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def load(cls, text: str) -> Plan:
        value: dict[str, Any] = json.loads(text)
        components = tuple(
            Component(
                **{
                    **c,
                    "argv": tuple(c["argv"]),
                    "probe": Probe(c["probe"]["url"], tuple(c["probe"]["contains"])),
                    "model": OllamaModel(**c["model"]) if c["model"] else None,
                }
            )
            for c in value["components"]
        )
        parts = {"addresses": Addresses(**value["addresses"]), "components": components}
        return cls(**{**value, **parts, "workers": tuple(value["workers"]), "lacks": tuple(value["lacks"])})


@dataclass(frozen=True, slots=True)
class Event:
    """What the supervisor tells whoever waits for the cluster."""

    kind: Literal["starting", "ready", "restarting", "up", "failed"]
    component: str = ""
    seconds: float = 0.0
    detail: str = ""
    log: tuple[str, ...] = ()

    def line(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Event:
        value: dict[str, Any] = json.loads(line)
        return cls(**{**value, "log": tuple(value["log"])})


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things are under the root."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "local.json"

    @property
    def lock(self) -> Path:
        return self.root / "local.lock"

    @property
    def local(self) -> Path:
        return self.root / "local"

    @property
    def etc(self) -> Path:
        return self.local / "etc"

    @property
    def logs(self) -> Path:
        return self.local / "logs"

    @property
    def credentials(self) -> Path:
        return self.local / "credentials"
