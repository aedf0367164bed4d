"""A gateway that says what a test wants, over real HTTP: refusals and broken streams can't be had from a healthy one.

As a program it plays a busy cluster's metrics too, to look at the pages: `python -m tests.dashboard.fake_gateway PORT`.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cluster_ai.gateway.identity.roles import LEAST, Role, allows
from cluster_ai.metrics.names import METRICS, Metric

GIB = 2**30


def model(name: str, replicas: int, present: list[str], loaded: list[str]) -> dict[str, Any]:
    told = {"size": 98_000_000, "digest": "0" * 64, "family": "llama", "parameter_size": "135M", "quantization": "Q4_1"}
    return {
        "name": name,
        **told,
        "context": 4096,
        "replicas": replicas,
        "present": present,
        "loaded": loaded,
        "memory": None,
    }


def worker(name: str, state: str = "active", reason: str | None = None) -> dict[str, Any]:
    idle = {"in_flight": 0, "slots": 2, "engine_version": "0.17.4", "gpu": [], "cordon": None, "release": None}
    return {"name": name, "state": state, "reason": reason, "placed": [], **idle}


def rollout(state: str, *steps: tuple[str, str, str]) -> dict[str, Any]:
    """steps: name, host, status."""
    at = "2026-11-24T09:30:00Z"
    return {
        **{"id": "20261124-093000-a1b2", "command": "cluster-ai apply", "who": "anna@desk", "strategy": "canary"},
        **{"state": state, "reason": "", "started": at, "ended": None, "configuration": "0" * 64},
        "hosts": [{"host": "gpu-worker-01", "before": "1" * 64, "wanted": "2" * 64}],
        "waves": [{"hosts": ["gpu-worker-01"], "kind": "canary", "pause": 0.0, "bake": 60.0}],
        "steps": [{"at": at, "step": step, "host": host, "status": how, "detail": ""} for step, host, how in steps],
    }


MODELS = [
    model("llama2:13b", 2, ["gpu-worker-01"], []),
    model("smollm2:135m", 1, ["cpu-worker-01"], ["cpu-worker-01"]),
]
UNIFIED = {"index": 0, "name": "NVIDIA GB10", "memory_used": None, "memory_total": None, "usage": 0.5}
WORKERS = [
    {**worker("cpu-worker-01"), "gpu": [{**UNIFIED, "temperature": 40.0, "power": None}]},
    worker("gpu-worker-01"),
    worker("gpu-worker-02", "down", "connection refused"),
]


def registered(metric: Metric, registry: CollectorRegistry) -> Any:
    stem = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
    if metric.kind == "histogram":
        return Histogram(stem, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    return {"counter": Counter, "gauge": Gauge}[metric.kind](stem, metric.help, metric.labels, registry=registry)


@dataclass
class FakeGateway:
    """`with FakeGateway(): ...`; its fields may be changed while it runs."""

    port: int = 0
    token: str | None = None  # what it asks for; None: answers everybody
    password: str | None = None  # of anna, who gets the token for it
    role: Role = "admin"
    pieces: tuple[str, ...] = ("Blue light ", "is scattered ", "most.")
    breaks_after: int | None = None  # pieces
    worker: str = "cpu-worker-01"
    models: list[dict[str, Any]] = field(default_factory=lambda: list(MODELS))
    workers: list[dict[str, Any]] = field(default_factory=lambda: list(WORKERS))
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.metric = {m.name: registered(m, self.registry) for m in METRICS}

    def may(self) -> list[str]:
        return [f"{action} {resource}" for action, resource in LEAST if allows(self.role, action, resource)]

    def steer(self, name: str, order: str, reason: str) -> dict[str, Any]:
        """Drain or resume."""
        cordon = {"reason": reason, "since": "2026-11-24T09:30:00Z", "tasks": 0, "results": 0}
        changed = {"state": "active", "cordon": None} if order == "resume" else {"state": "draining", "cordon": cordon}
        self.workers = [{**it, **changed} if it["name"] == name else it for it in self.workers]
        return changed

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FakeGateway:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Handler", (_Handler,), {"gateway": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    gateway: FakeGateway
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._reply(200, generate_latest(self.gateway.registry), "text/plain; version=0.0.4")
        elif self._let_in():
            status: dict[str, Any] = {
                "workers": self.gateway.workers,
                "scheduler_connected": True,
                "scheduler_reason": None,
            }
            known: dict[str, dict[str, Any]] = {
                "/api/v1/rollouts": {"rollouts": self.gateway.rollouts},
                **{f"/api/v1/rollouts/{it['id']}": it for it in self.gateway.rollouts},
                "/api/v1/plan": {"plan": None},
                "/api/v1/tasks": {"tasks": []},
                "/api/v1/templates": {"templates": []},
                "/v1/batches": {"data": []},
                "/api/v1/audit": {"lines": [], "head": 0, "hash": "0" * 64, "good": True, "problem": ""},
                "/api/v1/models": {"models": self.gateway.models},
                "/api/v1/cluster/status": status,
                "/api/v1/whoami": {"name": "anna", "role": self.gateway.role, "may": self.gateway.may()},
            }
            body = known.get(self.path.partition("?")[0])
            self._json(200 if body else 404, body or {"error": {"message": "no such path"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
        if self.path == "/api/v1/login":
            if body == {"user": "anna", "password": self.gateway.password}:
                self._json(200, {"token": self.gateway.token, "expires_in": 0, "refresh": "first"})
            else:
                self._json(401, {"error": {"message": "this user and password don't belong together"}})
            return
        if self.path == "/api/v1/login/refresh":  # the first token is at its end, the next one is another
            self.gateway.token = "renewed"
            self._json(200, {"token": "renewed", "expires_in": 900, "refresh": "second"})
            return
        if not self._let_in():
            return
        if self.path == "/api/v1/logout":
            self.gateway.token = "gone"
            self._json(200, {})
            return
        if self.path.startswith("/api/v1/cluster/workers/"):
            name, _, order = self.path.removeprefix("/api/v1/cluster/workers/").partition("/")
            self._json(200, self.gateway.steer(name, order, body.get("reason", "")))
            return
        self.gateway.prompts.append(body["prompt"])
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("X-Cluster-Worker", self.gateway.worker)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, piece in enumerate(self.gateway.pieces):
            if number == self.gateway.breaks_after:
                self._line({"error": {"message": "the worker was lost"}})
                break
            self._line({"response": piece, "done": False})
        else:
            usage = {"prompt_tokens": 12, "completion_tokens": 34}
            measured = {"time_to_first_token": 0.123, "tokens_per_second": 98.7, "usage": usage}
            self._line({"response": "", "done": True, "worker": self.gateway.worker, **measured})
        self.wfile.write(b"0\r\n\r\n")

    def _line(self, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _let_in(self) -> bool:
        token = self.gateway.token
        if (token is None and not self.headers.get("X-Forwarded-For")) or self.headers.get(
            "Authorization"
        ) == f"Bearer {token}":
            return True
        self._json(401, {"error": {"message": "a bearer token is needed"}})
        return False

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self._reply(status, json.dumps(body).encode(), "application/json")

    def _reply(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        pass


def busy(gateway: FakeGateway, seconds: float) -> None:
    """A few workers' numbers after `seconds` more of work."""
    m, chance = gateway.metric, random.Random()
    m["cluster_active_workers"].set(3)
    failed = m["cluster_failed_tasks_total"].labels("inference")  # there before anything fails, as in the real one
    for worker, cards, size in (("cpu-worker-01", 0, 32), ("gpu-worker-01", 1, 64), ("gpu-worker-02", 2, 64)):
        wave = 0.5 + 0.4 * chance.random()
        up = worker != "gpu-worker-02"
        m["worker_up"].labels(worker).set(up)
        if not up:
            continue
        m["worker_cpu_usage"].labels(worker).set(wave)
        m["worker_memory_usage"].labels(worker).set((8 + 6 * wave) * GIB)
        m["worker_memory_capacity"].labels(worker).set(size * GIB)
        m["worker_active_tasks"].labels(worker).set(chance.randint(0, 4))
        m["gateway_in_flight"].labels(worker).set(chance.randint(0, 4))
        for card in range(cards):
            m["worker_gpu_memory"].labels(worker, str(card)).set((6 + 2 * wave) * GIB)
            m["worker_gpu_memory_capacity"].labels(worker, str(card)).set(24 * GIB)
        model = "llama2:13b" if cards else "smollm2:135m"
        m["worker_model_loaded"].labels(worker, model).set(1)
        for _ in range(round(seconds * 4 * wave)):
            took = chance.lognormvariate(0.3 if cards else -0.7, 0.5)
            m["cluster_total_tasks_total"].labels("inference").inc()
            m["cluster_response_time_seconds"].observe(took * 1.1)
            m["model_inference_time_seconds"].labels(model).observe(took)
            m["model_tokens_generated_total"].labels(model, worker).inc(chance.randint(20, 60))
            if chance.random() < 0.01:
                failed.inc()


def main() -> None:
    with FakeGateway(port=int(sys.argv[1]), token=sys.argv[2] if len(sys.argv) > 2 else None) as gateway:
        while True:
            busy(gateway, 1)
            time.sleep(1)


if __name__ == "__main__":
    main()
