"""An alert goes its whole way: a gateway's metrics, a real Prometheus, a real Alertmanager, a webhook."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from cluster_ai import layout
from cluster_ai.metrics.names import ACTIVE_WORKERS
from cluster_ai.metrics.rules import rules
from cluster_ai.release.alertmanager import GROUP_INTERVAL, GROUP_WAIT, alertmanager
from cluster_ai.release.render import prometheus
from tests.rig.processes import free_port, running, until
from tests.unit.release.test_alertmanager import configured

PROGRAMS = ("prometheus", "prometheus-alertmanager")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)), reason="needs prometheus and prometheus-alertmanager (Debian's)"
    ),
]


@dataclass
class Chat:
    """What a webhook got: the token, and what was said."""

    url: str
    got: list[tuple[str | None, dict[str, Any]]] = field(default_factory=list)

    def said(self, status: str, alert: str) -> bool:
        return any(it["status"] == status and it["groupLabels"]["alertname"] == alert for _, it in self.got)


@contextlib.contextmanager
def chat() -> Iterator[Chat]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            here.got.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = Chat(f"http://127.0.0.1:{server.server_port}/alerts")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except urllib.error.HTTPError as error:  # not yet
        error.close()
        return False


def test_an_alert_reaches_the_webhook_with_its_token_and_what_to_do_and_so_does_its_end(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    workers = Gauge(ACTIVE_WORKERS.name, ACTIVE_WORKERS.help, registry=registry)
    gateway, served = start_http_server(0, "127.0.0.1", registry)
    port, prometheus_port = free_port(), free_port()
    with chat() as webhook:
        config = configured(f"webhook: '{webhook.url}', port: {port}")
        (tmp_path / layout.ALERTS_TOKEN).write_text("planted-token\n")
        told = alertmanager(config).replace(f"/run/credentials/{layout.ALERTMANAGER}", str(tmp_path))
        quick = told.replace(f'"{GROUP_WAIT}"', '"1s"').replace(f'"{GROUP_INTERVAL}"', '"1s"')
        (tmp_path / "alertmanager.yml").write_text(quick)
        watched = json.loads(prometheus(config))
        target = f"127.0.0.1:{gateway.server_port}"
        watched["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        watched["scrape_configs"] = [{"job_name": "gateway", "static_configs": [{"targets": [target]}]}]
        (tmp_path / "prometheus.yml").write_text(json.dumps(watched))
        (tmp_path / "rules.yml").write_text(rules().replace('"for": "30s"', '"for": "1s"'))
        commands = (
            ["prometheus-alertmanager", f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/am"],
            ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"],
        )
        where = [[f"--web.listen-address=127.0.0.1:{it}"] for it in (port, prometheus_port)]
        try:
            with (
                running([*commands[0], *where[0], "--cluster.listen-address="], tmp_path / "am.log",
                        until_ready=lambda: ready(port)),
                running([*commands[1], *where[1]], tmp_path / "prometheus.log",
                        until_ready=lambda: ready(prometheus_port)),
            ):  # fmt: skip
                until(lambda: webhook.said("firing", "NoWorkers"), within=60, what="the alert")
                workers.set(2)
                until(lambda: webhook.said("resolved", "NoWorkers"), within=60, what="its end")
        finally:
            gateway.shutdown()
            gateway.server_close()
            served.join()
    token, first = webhook.got[0]
    assert token == "Bearer planted-token"
    (alert,) = first["alerts"]
    assert alert["labels"]["severity"] == "critical"
    assert alert["labels"]["cluster"] == "lab"
    assert alert["annotations"]["runbook"] == "docs/alerts.md#noworkers"
    assert "cluster-ai status" in alert["annotations"]["description"]
