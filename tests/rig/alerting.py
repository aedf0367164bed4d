"""A real Prometheus that watches with our rules, a real Alertmanager as a release configures it, and a webhook."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cluster_ai import layout
from cluster_ai.config import load_text
from cluster_ai.metrics.rules import rules
from cluster_ai.release.alertmanager import GROUP_INTERVAL, GROUP_WAIT, alertmanager
from cluster_ai.release.render import prometheus
from tests.rig.processes import free_port, running

PROGRAMS = ("prometheus", "prometheus-alertmanager")
TOKEN = "planted-token"


def installed() -> bool:
    return all(map(shutil.which, PROGRAMS))


@dataclass
class Chat:
    """What a webhook got: the token, and what was said."""

    url: str
    got: list[tuple[str | None, dict[str, Any]]] = field(default_factory=list)

    def told(self, status: str, alert: str) -> list[dict[str, Any]]:
        """Each time that it was told of this alert."""
        return [it for _, it in self.got if it["status"] == status and it["groupLabels"]["alertname"] == alert]


@contextlib.contextmanager
def chat(address: str = "127.0.0.1", port: int = 0) -> Iterator[Chat]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            here.got.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((address, port), Handler)
    here = Chat(f"http://{address}:{server.server_port}/alerts")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def soon(told: str) -> str:
    """The rules, with less to wait for: alerts need only a second, and rates look back half a minute."""
    return re.sub(r'"for": "\w+"', '"for": "1s"', told).replace("[5m]", "[30s]")


@contextlib.contextmanager
def watching(folder: Path, gateway: str, webhook: Chat) -> Iterator[str]:
    """Prometheus' URL. gateway: host and port that it scrapes, each second. What is in folder/data is its past."""
    port, own = free_port(), free_port()
    config = load_text(
        "version: '1.0'\ncluster:\n  name: lab\n  scheduler: {host: 10.0.0.1}\n"
        "  workers: [{name: w, host: 10.0.0.2, resources: {cpu: 1, memory: 1GB}}]\n"
        f"  monitoring: {{alerts: {{webhook: '{webhook.url}', port: {port}}}}}\n",
        folder / "cluster.yaml",
    )
    (folder / layout.ALERTS_TOKEN).write_text(f"{TOKEN}\n")
    told = alertmanager(config).replace(f"/run/credentials/{layout.ALERTMANAGER}", str(folder))
    quick = told.replace(f'"{GROUP_WAIT}"', '"1s"').replace(f'"{GROUP_INTERVAL}"', '"1s"')
    (folder / "alertmanager.yml").write_text(quick)
    watched = json.loads(prometheus(config))
    watched["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    watched["scrape_configs"] = [{"job_name": "gateway", "static_configs": [{"targets": [gateway]}]}]
    (folder / "prometheus.yml").write_text(json.dumps(watched))
    (folder / "rules.yml").write_text(soon(rules()))
    commands = (
        ["prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/am"],
        ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"],
    )
    where = [[f"--web.listen-address=127.0.0.1:{it}"] for it in (port, own)]
    with (
        running([*commands[0], *where[0], "--cluster.listen-address="], folder / "am.log",
                until_ready=lambda: _ready(port)),
        running([*commands[1], *where[1]], folder / "prometheus.log", until_ready=lambda: _ready(own)),
    ):  # fmt: skip
        yield f"http://127.0.0.1:{own}"


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=60) as reply:
            return bool(reply.status == 200)
    except urllib.error.HTTPError as error:  # not yet
        error.close()
        return False
