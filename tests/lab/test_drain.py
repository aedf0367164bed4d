"""drain and undrain on real hosts, while answers stream from them."""

from __future__ import annotations

import json
import threading
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster_ai.errors import ExitCode
from tests.lab.conftest import Cluster, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

MODEL = "smollm2:135m"


@dataclass
class Stream:
    """A long answer, read in a thread."""

    request: urllib.request.Request
    worker: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with urllib.request.urlopen(self.request, timeout=600) as reply:
            self.worker = reply.headers["X-Cluster-Worker"]
            for line in reply:
                self.lines.append(json.loads(line))
                self.begun.set()


@dataclass(frozen=True)
class Client:
    cluster: Cluster
    token: str

    def ask(self, tokens: int, *, stream: bool) -> urllib.request.Request:
        options = {"num_predict": tokens, "temperature": 0, "seed": 1}  # counting never ends by itself
        body = {"model": MODEL, "prompt": "1, 2, 3, 4, 5, 6,", "raw": True, "stream": stream, "options": options}
        url = f"http://{self.cluster.lab.address('h1')}:11435/api/generate"
        # In turn: by affinity the same prompt would stay where it was answered before.
        headers = {"Authorization": f"Bearer {self.token}", "X-Cluster-Policy": "round_robin"}
        return urllib.request.Request(url, json.dumps(body).encode(), headers)

    def short(self) -> str:
        """Who answered."""
        with urllib.request.urlopen(self.ask(1, stream=False), timeout=600) as reply:
            assert json.load(reply)["done"] is True
            return str(reply.headers["X-Cluster-Worker"])


def worker(cluster: Cluster, name: str) -> dict[str, Any]:
    workers = cluster.json("status")["gateway"]["workers"]
    found: dict[str, Any] = next(it for it in workers if it["name"] == name)
    return found


def test_a_worker_is_drained_while_answers_stream_and_comes_back(cluster: Cluster) -> None:
    client = Client(cluster, cluster.run("status", "--token", check=True).stdout.strip())
    streams = [Stream(client.ask(300, stream=True)) for _ in range(2)]
    assert all(stream.begun.wait(600) for stream in streams)
    name = streams[0].worker
    try:
        done = cluster.run("drain", name, "--reason", "new fans", "--timeout", "15m")
        assert done.returncode == ExitCode.OK, done.stderr
        assert f"{name}: empty; drained: new fans, since " in done.stdout
        for stream in streams:
            stream.thread.join(900)
            assert stream.lines[-1]["done"] is True
        assert name not in {client.short() for _ in range(4)}

        cluster.lab.run_on("h1", "systemctl restart 'cluster-ai-gateway@*.service'")
        cluster.lab.run_on(name, "systemctl restart cluster-ai-worker.service")
        until(lambda: worker(cluster, name)["state"] == "draining")
        until(lambda: (worker(cluster, name)["cordon"] or {}).get("tasks") == 0)
        assert name in cluster.run("status").stdout
        again = cluster.json("drain", name)
        assert [(it["requests"], it["tasks"], it["untold"]) for it in again["workers"]] == [(0, 0, None)]
    finally:
        back = cluster.run("undrain", name)
    assert back.returncode == ExitCode.OK, back.stderr
    until(lambda: worker(cluster, name)["state"] == "active")
    until(lambda: client.short() == name, what="it gets requests again")
