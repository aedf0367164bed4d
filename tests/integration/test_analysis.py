"""The analysis on a real Prometheus that watches the gateway's own counters."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, start_http_server

from cluster_ai.config.model import Canary
from cluster_ai.gateway.metering import Meter, Usage
from cluster_ai.rollout.analysis import Trial, judge
from cluster_ai.rollout.prometheus import Prometheus, measured
from tests.rig.processes import free_port, running, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="no prometheus here (Debian: apt install prometheus)"),
]
LIMITS = Canary(1, 60.0, max_error_rate=0.01, max_latency_increase=0.5, max_speed_loss=0.2)
REQUESTS = 40


class Gateway:
    """The counters of one gateway process, on a port where a later one can take its place."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.begin()

    def begin(self) -> None:
        registry = CollectorRegistry()
        self._meter = Meter(registry)
        for worker in ("w1", "w2"):
            self._meter.expect(worker, ["m"])
        self._server, self._thread = start_http_server(self.port, "127.0.0.1", registry)

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, worker: str, *, speed: float, failed: int = 0) -> None:
        for _ in range(REQUESTS - failed):
            seconds = 50 / speed
            self._meter.served(worker, seconds + 0.1, 0.1)
            self._meter.usage("m", worker, Usage(10, 50, seconds + 0.1, 0.0, seconds))
        for _ in range(failed):
            self._meter.faulted(worker)


def test_workers_are_judged_by_what_a_real_prometheus_saw_of_them_across_a_restart(tmp_path: Path) -> None:
    port, gateway = free_port(), Gateway(free_port())
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: gateway, static_configs: [{{targets: ['127.0.0.1:{gateway.port}']}}]}}]\n"
    )
    arguments = [
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]

    def ask(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    prometheus = Prometheus(ask)

    def scraped(worker: str, ok: float) -> bool:
        """Its counter is known to Prometheus as it is now."""
        found = prometheus.query(f'worker_requests_total{{worker="{worker}",outcome="ok"}}')
        return [sample.value for sample in found] == [ok]

    def begin() -> float:
        """A moment from which on every counter is known, at zero."""
        now = time.time()
        until(lambda: prometheus.query("min(timestamp(worker_requests_total))")[0].value > now)
        return now

    with running(arguments, tmp_path / "log", until_ready=lambda: json.loads(ask("/api/v1/status/config")[1])):
        start = begin()
        for worker, speed in (("w1", 80.0), ("w2", 20.0)):
            gateway.serve(worker, speed=speed)
        until(lambda: scraped("w1", REQUESTS) and scraped("w2", REQUESTS))
        before = measured(prometheus, (start, time.time()))

        gateway.end()
        gateway.begin()
        until(lambda: scraped("w1", 0) and scraped("w2", 0))
        start = begin()
        gateway.serve("w1", speed=40.0, failed=8)
        gateway.serve("w2", speed=20.0)
        until(lambda: scraped("w1", REQUESTS - 8) and scraped("w2", REQUESTS))
        after = measured(prometheus, (start, time.time()))
    gateway.end()

    trials = {worker: Trial(before[worker], after[worker]) for worker in ("w1", "w2")}
    good = judge(canary={"w2": trials["w2"]}, baseline={}, limits=LIMITS)
    assert good.result == "pass", good.summary
    bad = judge(canary={"w1": trials["w1"]}, baseline={"w2": trials["w2"]}, limits=LIMITS)
    results = {check.name: check.result for check in bad.checks}
    assert results == {
        "error rate": "fail",
        "response time": "fail",
        "time to first token": "pass",
        "tokens/s": "fail",
    }, bad.summary
    (tokens,) = [check for check in bad.checks if check.name == "tokens/s"]
    assert tokens.canary == pytest.approx(40.0, rel=0.05)
    assert tokens.baseline == pytest.approx(80.0, rel=0.05)
