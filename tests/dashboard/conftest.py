"""A real Prometheus, the real dashboard and a real Chromium around a gateway that says what the test wants."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from cluster_ai import settings
from cluster_ai.metrics.names import DRIFT, DRIFT_CHECKED, HOST_METRICS, ROLLOUT_STATE
from tests.dashboard.fake_gateway import FakeGateway, busy
from tests.rig.processes import PATIENCE, free_port
from tests.rig.scripts import script

ROOT = Path(__file__).parents[2]
Dashboard = Callable[[str, str], str]  # (gateway's URL, Prometheus' URL) -> its own


def wait_for(condition: Callable[[], Any], what: str, deadline: float = PATIENCE) -> Any:
    end = time.monotonic() + deadline
    while not (result := condition()):
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {deadline} s")
        time.sleep(0.1)
    return result


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=60).ok
    except requests.RequestException:
        return False


def ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


class Node:
    """A host's exporter, with the metrics that its own check leaves."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        gauges = {metric: Gauge(metric.name, metric.help, metric.labels, registry=registry) for metric in HOST_METRICS}
        self.drift, self.checked, self.rollout = gauges[DRIFT], gauges[DRIFT_CHECKED], gauges[ROLLOUT_STATE]
        self.checked.set_to_current_time()
        self._server, self._thread = start_http_server(0, "127.0.0.1", registry)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class RealPrometheus:
    """Scrapes one gateway, a host that is there, one that isn't, and one that may sleep, once a second.

    begun: whether it does so from the start, or has measured nothing until `scrape`.
    """

    def __init__(self, folder: Path, gateway: FakeGateway, node: Node | None = None, *, begun: bool = True) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        there = [{"targets": [node.address], "labels": {"host": "near-host"}}] if node else []
        self._jobs = [
            {"job_name": "gateway", "static_configs": [{"targets": [gateway.url.removeprefix("http://")]}]},
            {
                "job_name": "node",
                "static_configs": [
                    {"targets": [f"127.0.0.1:{free_port()}"], "labels": {"host": "far-host"}},
                    {"targets": [f"127.0.0.1:{free_port()}"], "labels": {"host": "sleeper", "worker": "sleeper"}},
                    *there,
                ],
            },
        ]
        self._file = folder / "prometheus.yml"
        self._configure(self._jobs if begun else [])
        self._argv = [
            "prometheus",
            f"--config.file={self._file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--log.level=error",
        ]
        self.start()

    def _configure(self, jobs: Sequence[dict[str, Any]]) -> None:
        often = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        self._file.write_text(json.dumps({"global": often, "scrape_configs": jobs}))

    def scrape(self) -> None:
        self._configure(self._jobs)
        self._process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        self._process = subprocess.Popen(self._argv)
        wait_for(lambda: answers(f"{self.url}/-/ready"), "Prometheus' start")

    def stop(self) -> None:
        ended(self._process)

    def value(self, query: str) -> float | None:
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=60).json()["data"]["result"]
        return float(answer[0]["value"][1]) if answer else None

    def asked(self) -> float:
        """How many requests its API has answered."""
        lines = requests.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        counts = (it for it in lines if it.startswith("prometheus_http_requests_total") and '"/api/v1/' in it)
        return sum(float(it.rpartition(" ")[2]) for it in counts)


def see_work(real: RealPrometheus, gateway: FakeGateway) -> None:
    """Rates look back a minute; here it has seen some half a minute ago at most, at the end of its charts too."""
    lately = "sum(rate(cluster_total_tasks_total[30s] offset 5s)) > 0"
    if not real.value(lately):
        busy(gateway, 20)
        wait_for(lambda: real.value(lately), "a rate at the end of a chart")


@pytest.fixture(scope="module")
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway() as fake:
        busy(fake, 20)
        yield fake


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    exporter = Node()
    yield exporter
    exporter.stop()


@pytest.fixture(scope="module")
def prometheus(gateway: FakeGateway, node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    """Has seen the gateway work, so that rates are more than nothing."""
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus here (Debian: apt install prometheus)")
    gateway.metric["worker_asleep"].labels("sleeper").set(1)
    real = RealPrometheus(tmp_path_factory.mktemp("prometheus"), gateway, node)
    wait_for(lambda: real.value("cluster_total_tasks_total"), "the first scrape")
    see_work(real, gateway)
    yield real
    real.stop()


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    started = []

    def start(gateway_url: str, prometheus_url: str) -> str:
        port = free_port()
        told = settings.DashboardSettings(
            cluster="test-cluster",
            address="127.0.0.1",
            port=port,
            host="127.0.0.1",
            shows=None,
            oidc=None,
            gateway_url=gateway_url,
            prometheus_url=prometheus_url,
            dask_url="http://127.0.0.1:8787",
        )
        (tmp_path / "dashboard.json").write_text(settings.dump(told))
        environment = {
            **os.environ,
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "CLUSTER_AI_DASHBOARD_SETTINGS": str(tmp_path / "dashboard.json"),
        }
        started.append(
            subprocess.Popen([sys.executable, "-m", "dashboard"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        )
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{url}/_stcore/health"), "the dashboard's start")
        return url

    yield start
    for process in started:
        ended(process)


@pytest.fixture(scope="session")
def shots() -> ModuleType:
    """docs/screenshots.py, which knows how to walk through the pages."""
    if not (shutil.which("chromium") or shutil.which("chromium-browser")) or not shutil.which("chromedriver"):
        pytest.skip("no Chromium here (Debian: apt install chromium chromium-driver)")
    return script("docs/screenshots.py")


@pytest.fixture
def browser(shots: ModuleType) -> Iterator[Any]:
    with shots.chromium() as driver:
        yield driver
