"""A cluster of many workers without machines for them: a real gateway, a real Prometheus and the real dashboard.

What stands in: the workers' engines (they answer at once), the hosts' exporters and what Dask would tell of each
worker, all in this process, a port or a path each; and an hour of the past, which promtool writes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import random
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cluster_ai import layout, settings
from cluster_ai.metrics.names import HOST_METRICS, METRICS, WORKER_MODEL_LOADED, Metric
from cluster_ai.metrics.rules import rules
from cluster_ai.rollout.journal import Change, Intent, Journal
from tests.fakes.upstream import Upstream, in_thread
from tests.rig import cluster as rig
from tests.rig.processes import free_port, running
from tests.rig.week import Value, blocks

SCRAPE, PAST = 15, 3600  # seconds between two scrapes, and of the past
MODELS, EACH, CARDS = 12, 3, 2  # models of the cluster, of a worker; cards of a worker
GIB = 2**30
# What the gateway tells of workers only where Dask's workers tell it.
BY_DASK = ("worker_cpu_usage", "worker_memory_usage", "worker_memory_capacity")
BY_CARD = tuple(metric.name for metric in METRICS if "gpu" in metric.labels)
NODES: Mapping[str, float] = {
    'node_cpu_seconds_total{cpu="0",mode="idle"}': 0.6,
    "node_memory_MemTotal_bytes": 64 * GIB,
    "node_memory_MemAvailable_bytes": 40 * GIB,
    'node_filesystem_avail_bytes{mountpoint="/"}': 300 * GIB,
    'node_filesystem_size_bytes{mountpoint="/"}': 500 * GIB,
}
LEVELS = {"bytes": 8 * GIB, "memory": 12 * GIB, "capacity": 24 * GIB, "celsius": 60.0, "watts": 180.0, "usage": 0.6}


@dataclass(frozen=True)
class Crowd:
    """prometheus, gateway, dashboard: their URLs."""

    prometheus: str
    gateway: str
    dashboard: str

    def asked(self) -> float:
        """How many queries Prometheus has answered."""
        return sum(
            value
            for name, value in _counters(self.prometheus)
            if "/api/v1/" in name and name.startswith("prometheus_http_requests_total")
        )


def workers(count: int) -> list[str]:
    return [f"worker-{number:02}" for number in range(1, count + 1)]


def models_of(number: int) -> list[str]:
    return [f"model-{(number + step) % MODELS + 1:02}:7b" for step in range(EACH)]


@contextlib.contextmanager
def crowd(folder: Path, count: int) -> Iterator[Crowd]:
    """Up, with an hour of the past, and people who ask all the time."""
    with contextlib.ExitStack() as stack:
        engines = stack.enter_context(in_thread(*["127.0.0.1"] * count))
        for number, engine in enumerate(engines):
            engine.models = models_of(number)
            engine.loaded = engine.models[:1]
        told = _gateway_settings(folder, engines)
        gateway, _ = stack.enter_context(
            rig.gateway(folder / "gateway", told, _credentials(folder / "keys"), workers=count)
        )
        exporters = stack.enter_context(_exporters(count))
        prometheus = stack.enter_context(_prometheus(folder, gateway, exporters, count))
        dashboard = stack.enter_context(_dashboard(folder, gateway, prometheus))
        stack.enter_context(_people(gateway))
        yield Crowd(prometheus, gateway, dashboard)


def _credentials(folder: Path) -> Path:
    return rig.authority().credentials(folder, "head", "head", token=rig.TOKEN)


def _gateway_settings(folder: Path, engines: Sequence[Upstream]) -> settings.GatewaySettings:
    rollouts = folder / "rollouts"
    rollouts.mkdir()
    record = _rolled_out(folder, len(engines))
    (rollouts / f"{record['id']}.json").write_text(json.dumps(record))
    return rig.gateway_settings(
        trusted_networks=("127.0.0.0/8",),
        rollouts=str(rollouts),
        models={name: 4096 for number in range(MODELS) for name in models_of(number)},
        upstreams=tuple(
            settings.Upstream(name, engine.url, tuple(engine.models), slots=4, gpu=CARDS)
            for name, engine in zip(workers(len(engines)), engines, strict=True)
        ),
    )


def _rolled_out(folder: Path, count: int) -> dict[str, object]:
    """The record of a rollout of all hosts, as a controller's journal keeps it."""
    names, digest = workers(count), "0" * 64
    waves = tuple(
        {"hosts": names[at : at + 5], "kind": "rolling", "pause": 0.0, "bake": 0.0} for at in range(0, count, 5)
    )
    changes = {name: Change("1" * 64, "2" * 64) for name in names}
    journal = Journal(folder / "rollouts.sqlite")
    text = f"# {count} workers\n" + "".join(f"#   {name}\n" for name in names)
    rollout = journal.begin("cluster-ai apply", "bench", Intent("rig", "rolling", digest, changes, waves, text))
    for name in names:
        for step in ("push", "drain", "switch"):
            journal.step(rollout, step, name, "changed")
    journal.set_state(rollout, "done")
    return journal.get(rollout).as_dict()


# Prometheus, and what it reads


@contextlib.contextmanager
def _exporters(count: int) -> Iterator[str]:
    """Hosts at /node/NAME, what Dask tells at /dask. Yields host and port."""
    names = workers(count)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            now = time.time()
            series = _of_dask(names) if self.path == "/dask" else _of_host()
            body = "".join(f"{name} {value(now)}\n" for name, value in series.items()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="exporters")
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def _prometheus(folder: Path, gateway: str, exporters: str, count: int) -> Iterator[str]:
    url, keys = f"http://127.0.0.1:{free_port()}", folder / "keys"
    hosts = [
        {"targets": [exporters], "labels": {"host": name, "worker": name, "__metrics_path__": f"/node/{name}"}}
        for name in workers(count)
    ]
    token = {"credentials_file": str(keys / layout.GATEWAY_TOKEN)}
    jobs = [
        {
            "job_name": "gateway",
            "authorization": token,
            "static_configs": [{"targets": [gateway.removeprefix("http://")]}],
        },
        {"job_name": "dask", "metrics_path": "/dask", "static_configs": [{"targets": [exporters]}]},
        {"job_name": "node", "static_configs": hosts},
    ]
    interval = {"scrape_interval": f"{SCRAPE}s", "evaluation_interval": f"{SCRAPE}s"}
    told = {"global": interval, "rule_files": ["rules.yml"], "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(json.dumps(told))
    (folder / "rules.yml").write_text(rules())
    end = time.time() // SCRAPE * SCRAPE - SCRAPE
    data = blocks(folder, past(count), end - PAST, end, SCRAPE)
    arguments = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={data}"]
    arguments += [f"--web.listen-address={url.removeprefix('http://')}", "--log.level=warn"]

    def ready() -> bool:
        up = json.loads(rig.fetch(f"{url}/api/v1/query?query=count(up==1)")[1])["data"]["result"]
        return bool(up and float(up[0]["value"][1]) == count + 2)

    with running(arguments, folder / "prometheus.log", until_ready=ready, within=120):
        yield url


def past(count: int) -> dict[str, Value]:
    """Every series that the gateway, Dask and the hosts of such a cluster have told of."""
    names = workers(count)
    found = _of_dask(names)
    pairs = [(name, model) for number, name in enumerate(names) for model in models_of(number)]
    known: dict[tuple[str, ...], Sequence[tuple[str, ...]]] = {
        ("worker",): [(name,) for name in names],
        ("worker", "model"): pairs,
        ("model", "worker"): [(model, name) for name, model in pairs],
        ("model",): [(model,) for model in sorted({model for _, model in pairs})],
        ("kind",): [("inference",)],
        ("worker", "outcome"): [(name, "ok") for name in names],
        (): [()],
    }
    for metric in METRICS:
        if metric.name not in BY_DASK:
            for values in known.get(metric.labels, ()):
                labels = {**dict(zip(metric.labels, values, strict=True)), "job": "gateway", "instance": "gateway"}
                found |= _series(metric, labels)
    for name in names:
        told = {"job": "node", "host": name, "worker": name, "instance": name}
        found |= {_with(series, told): value for series, value in _of_host().items()}
    return found


def _series(metric: Metric, labels: Mapping[str, str]) -> dict[str, Value]:
    """Counters and histograms of about one request in three seconds."""
    if metric.kind == "gauge":
        binary = metric is WORKER_MODEL_LOADED or metric.name.endswith("_up")
        return {_with(metric.name, labels): _steady(1.0) if binary else _wave(metric.name, labels)}
    rate = _chance(labels, 0.2, 0.4)
    if metric.kind == "counter":
        rare = "fail" in metric.name or "stalls" in metric.name
        return {_with(metric.name, labels): _grows(rate / (200 if rare else 1))}
    mean = metric.buckets[len(metric.buckets) // 2]
    told = {f"{bound}": 1 - math.exp(-bound / mean) for bound in metric.buckets} | {"+Inf": 1.0}
    buckets = {_with(f"{metric.name}_bucket", {**labels, "le": le}): _grows(rate * share) for le, share in told.items()}
    ends = {_with(f"{metric.name}_count", labels): _grows(rate), _with(f"{metric.name}_sum", labels): _grows(mean)}
    return buckets | ends


def _of_dask(names: Sequence[str]) -> dict[str, Value]:
    found = {_with(metric, {"worker": name}): _wave(metric, {"w": name}) for metric in BY_DASK for name in names}
    for name in names:
        for card in map(str, range(CARDS)):
            found |= {
                _with(metric, {"worker": name, "gpu": card}): _wave(metric, {"w": name, "gpu": card})
                for metric in BY_CARD
            }
    return found


def _of_host() -> dict[str, Value]:
    checks = {_with(it.name, {"kind": "files"} if it.labels else {}): _steady(0.0) for it in HOST_METRICS[:1]}
    checked: dict[str, Value] = {HOST_METRICS[1].name: lambda at: time.time() - 600}
    levels = {name: _grows(level) if "seconds_total" in name else _steady(level) for name, level in NODES.items()}
    return {**levels, **checks, **checked}


def _with(name: str, labels: Mapping[str, str]) -> str:
    stem, _, own = name.partition("{")
    told = ",".join([*([own.rstrip("}")] if own else []), *(f'{key}="{value}"' for key, value in labels.items())])
    return f"{stem}{{{told}}}" if told else stem


def _chance(of: object, least: float, most: float) -> float:
    """The same of the same."""
    return random.Random(repr(of)).uniform(least, most)  # noqa: S311 (nothing is secret here)


def _steady(level: float) -> Value:
    return lambda at: level


def _grows(rate: float) -> Value:
    return lambda at: rate * at


def _wave(metric: str, labels: Mapping[str, str]) -> Value:
    level = next((found for word, found in LEVELS.items() if word in metric), 2.0)
    phase = _chance(labels, 0, 6)
    return lambda at: level * (1 + 0.2 * math.sin(at / 300 + phase))


# Who looks, and who asks


@contextlib.contextmanager
def _dashboard(folder: Path, gateway: str, prometheus: str) -> Iterator[str]:
    port = free_port()
    told = settings.DashboardSettings(
        *("rig", "127.0.0.1", port, "127.0.0.1", None, None, gateway, prometheus, "http://127.0.0.1:1")
    )
    (folder / "dashboard.json").write_text(settings.dump(told))
    environment = {"HOME": str(folder), "CLUSTER_AI_DASHBOARD_SETTINGS": str(folder / "dashboard.json")}
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        return bool(rig.fetch(f"{url}/_stcore/health")[1])

    with running(
        [sys.executable, "-m", "dashboard"], folder / "dashboard.log", environment=environment, until_ready=ready
    ):
        yield url


@contextlib.contextmanager
def _people(gateway: str) -> Iterator[None]:
    """A few requests a second, so that the gateway's own series move on."""
    stop = threading.Event()

    def ask() -> None:
        for number in itertools.count():
            if stop.wait(0.3):
                return
            body = json.dumps({"model": models_of(number)[0], "prompt": "Hello"}).encode()
            with contextlib.suppress(OSError):
                rig.fetch(urllib.request.Request(f"{gateway}/api/generate", body))  # noqa: S310 (our own)

    thread = threading.Thread(target=ask, name="people")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _counters(url: str) -> Iterator[tuple[str, float]]:
    for line in rig.fetch(f"{url}/metrics")[1].decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            yield name, float(value)
