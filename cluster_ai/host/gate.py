"""Is this host healthy? The real thing is asked: units, a token of each model, the scheduler, each service's health."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed.comm import connect
from distributed.core import send_recv

from cluster_ai import layout
from cluster_ai.engine.client import canonical
from cluster_ai.host import units
from cluster_ai.host.ollama import Ollama, OllamaError
from cluster_ai.settings import HostSettings, PlacedModel
from cluster_ai.sizes import counted
from cluster_ai.tls.dask import security

IN_A_ROW = 3  # checks without a failure, until the host counts as healthy with a release that is new to it
INTERVAL = 1.0
ANSWER = 5.0  # seconds for one answer of a service


def wait(told: HostSettings, timeout: float, in_a_row: int = IN_A_ROW) -> list[str]:
    """Ask again and again; the failures that are left at the deadline, none when the host is healthy."""
    gate = Gate(told, time.monotonic() + timeout)
    seen = 0
    while True:
        failures = gate.check()
        seen = 0 if failures else seen + 1
        if seen == in_a_row:
            print("healthy", flush=True)
            return []
        if time.monotonic() + INTERVAL > gate.deadline:
            return failures or [f"expected {in_a_row} good checks in a row, found {seen} at the end of {timeout:.0f} s"]
        time.sleep(INTERVAL)


@dataclass
class Gate:
    """The checks of one host. What is dear, the tokens, is asked until it was right once."""

    told: HostSettings
    deadline: float
    generated: set[str] = field(default_factory=set)
    restarts: dict[str, int] = field(default_factory=dict)

    def check(self) -> list[str]:
        failures = self._units()
        if self.told.gateway_url and not failures:
            failures = gateway_health(self.told.gateway_url.rstrip("/") + "/health")
        for name, url, path in (
            ("Prometheus", self.told.prometheus_url, "/-/ready"),
            ("dashboard", self.told.dashboard_url, "/"),  # it may be well, and not find its own pages
            ("Open WebUI", self.told.open_webui_url, "/health"),
        ):
            if url and not failures:
                failures += http_health(name, url.rstrip("/") + path)
        if not failures:
            failures = self._scheduler()
        if not failures and self.told.engine_url:
            engine = Ollama(self.told.engine_url)
            for model in self.told.models:
                failures += self._token(engine, model)
        return failures

    def _units(self) -> list[str]:
        found = units.states(self.told.units)
        failures = [
            f"unit {name}: expected active, found {state.active} ({state.sub})"
            for name, state in found.items()
            if state.active != "active"
        ]
        failures += [
            f"unit {name}: expected it to stay up, found that it was restarted {counted(state.restarts, 'time')}"
            for name, state in found.items()
            if state.restarts > self.restarts.get(name, state.restarts)
        ]
        self.restarts = {name: state.restarts for name, state in found.items()}
        return failures

    def _scheduler(self) -> list[str]:
        try:
            names = asyncio.run(workers(self.told.scheduler))
        except Exception as error:  # Dask's comms raise many kinds
            return [f"scheduler: expected an answer at {self.told.scheduler}, found: {reason(error)}"]
        if "worker" in self.told.roles and self.told.name not in names:
            return [f"scheduler: expected it to know worker {self.told.name}, found {sorted(names) or 'no worker'}"]
        return []

    def _token(self, engine: Ollama, model: PlacedModel) -> list[str]:
        if model.name in self.generated:
            return []
        try:
            left = max(ANSWER, self.deadline - time.monotonic())
            body = {"model": model.name, "prompt": "Hello", "stream": False, "options": {"num_predict": 1}}
            said = engine.post("/api/generate", body, silence=left)
            if not said.get("eval_count"):
                return [f"model {model.name}: expected one generated token, found none"]
            loaded = engine.get("/api/ps")["models"]
        except OllamaError as error:
            return [f"model {model.name}: expected one generated token, found: {error}"]
        failures = processor(model, loaded)
        if not failures:
            self.generated.add(model.name)
        return failures


def processor(model: PlacedModel, loaded: list[dict[str, Any]]) -> list[str]:
    """Whether a loaded model is where it was placed. An engine that keeps nothing loaded can't be asked."""
    entry = next((m for m in loaded if canonical(m["name"]) == canonical(model.name)), None)
    if entry is None or not entry.get("size"):
        return []
    share = entry.get("size_vram", 0) / entry["size"]
    if model.processor == "gpu" and share < 1:
        return [f"model {model.name}: expected it on the GPU, found {share:.0%} of it there"]
    if model.processor == "cpu" and share > 0:
        return [f"model {model.name}: expected it on the CPU, found {share:.0%} of it on the GPU"]
    return []


def reason(error: Exception) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def gateway_health(url: str) -> list[str]:
    """Whether the gateway itself answers. The head host is switched before its workers, so that it may see none yet."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER):  # noqa: S310 (http://127.0.0.1, from our own settings)
            return []
    except urllib.error.HTTPError as error:
        with contextlib.suppress(ValueError, TypeError):
            if json.loads(error.read())["workers"] == 0:
                return []
        return [f"gateway: expected HTTP 200 of {url}, found {error.code}"]
    except OSError as error:
        return [f"gateway: expected HTTP 200 of {url}, found: {getattr(error, 'reason', error)}"]


# On loopback nothing is told that is a secret, and a certificate that was given needn't hold for 127.0.0.1.
_UNSEEN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_UNSEEN.check_hostname = False
_UNSEEN.verify_mode = ssl.CERT_NONE


def http_health(name: str, url: str) -> list[str]:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER, context=_UNSEEN):  # noqa: S310 (127.0.0.1, from our own settings)
            return []
    except urllib.error.HTTPError as error:
        return [f"{name}: expected HTTP 200 of {url}, found {error.code}"]
    except OSError as error:
        return [f"{name}: expected HTTP 200 of {url}, found: {getattr(error, 'reason', error)}"]


async def workers(scheduler: str, place: Path = Path(layout.TLS)) -> set[str]:
    """The names of the workers that the scheduler knows, asked over mutual TLS."""
    async with asyncio.timeout(ANSWER):
        comm = await connect(scheduler, timeout=ANSWER, **security(place).get_connection_args("client"))
        try:
            identity = await send_recv(comm, op="identity", serializers=["msgpack"])
        finally:
            with contextlib.suppress(Exception):
                comm.abort()
    return {str(worker["name"]) for worker in identity["workers"].values()}
