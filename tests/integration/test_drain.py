"""Draining through a real gateway, before a real engine behind its front, with a real Dask."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cluster_ai import layout, settings
from cluster_ai.config.load import load
from cluster_ai.security.credentials import load_or_create
from cluster_ai.settings import Upstream
from tests.rig import cluster as rig
from tests.rig.cluster import MODEL, TOKEN
from tests.rig.processes import PATIENCE, Process, free_port, until

pytestmark = pytest.mark.integration

HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
LONG, ENDLESS = 300, 20_000  # tokens: some seconds, and more than anyone waits for
CONFIG = """\
version: '1.0'
cluster:
  name: 'rig'
  scheduler: {{host: '127.0.0.1'}}
  workers:
    - {{name: 'w1', host: '127.0.0.2', resources: {{cpu: 1, memory: '2GB'}}}}
  gateway: {{port: {port}}}
  security: {{tls: {{enabled: false}}}}
"""


@dataclass
class Stream:
    """Counting, which never ends by itself, read in a thread."""

    url: str
    tokens: int
    token: str = TOKEN
    lines: list[dict[str, Any]] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    leave: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        assert self.begun.wait(PATIENCE)

    def _read(self) -> None:
        options = {"num_predict": self.tokens, "temperature": 0, "seed": 1}
        body = json.dumps({"model": MODEL, "prompt": "1, 2, 3, 4, 5, 6,", "raw": True, "options": options}).encode()
        headers = {**HEADERS, "Authorization": f"Bearer {self.token}"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/api/generate", body, headers), timeout=PATIENCE
        ) as r:
            for line in r:
                self.lines.append(json.loads(line))
                self.begun.set()
                if self.leave.is_set():
                    return

    def ended(self) -> dict[str, Any]:
        self.thread.join(2 * PATIENCE)
        assert not self.thread.is_alive()
        return self.lines[-1]


@dataclass
class Site:
    folder: Path
    told: settings.GatewaySettings
    keys: Path
    front: Process

    def gateway(self) -> contextlib.AbstractContextManager[tuple[str, Process]]:
        return rig.gateway(self.folder / "gateway", self.told, self.keys, workers=0)

    def scheduler(self) -> contextlib.AbstractContextManager[Process]:
        return rig.scheduler(self.folder / "scheduler", self.keys, int(self.told.scheduler.rpartition(":")[2]))


@pytest.fixture
def site(tmp_path: Path, engine: str) -> Iterator[Site]:
    """One worker, w1, with its front."""
    authority = rig.authority()
    head = authority.credentials(tmp_path / "head", "head", "head", token=TOKEN)
    worker = authority.credentials(tmp_path / "worker", "w1", "worker")
    port = free_port()
    told = rig.gateway_settings(upstreams=(Upstream("w1", f"https://127.0.0.1:{port}", (MODEL,), 1, 0),))
    with rig.front(tmp_path / "front", worker, engine, port) as front:
        yield Site(tmp_path, told, head, front)


def seen(url: str) -> dict[str, Any]:
    status: dict[str, Any] = rig.get(f"{url}/api/v1/cluster/status", token=TOKEN)
    worker: dict[str, Any] = status["workers"][0]
    return worker


def post(url: str, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{url}/api/v1/cluster/workers/w1/{what}", data, HEADERS, method="POST")
    answer: dict[str, Any] = json.loads(rig.fetch(request)[1])
    return answer


def test_a_drain_outlasts_the_gateway_and_the_scheduler(site: Site, engine: str) -> None:
    told = settings.WorkerSettings("w1", site.told.scheduler, engine, 1, 2 * 1024**3, 0, (MODEL,), None)
    with contextlib.ExitStack() as dask:
        dask.enter_context(site.scheduler())
        worker = dask.enter_context(rig.dask_worker(site.folder / "dask", site.keys, told))
        with site.gateway() as (url, _):
            until(lambda: seen(url)["dask_tasks"] is not None and seen(url)["state"] == "active")
            answer = post(url, "drain", {"reason": "new fans"})
            assert answer["state"] == "draining"
            assert answer["reason"].startswith("drained: new fans, since ")
            assert (answer["cordon"]["tasks"], answer["cordon"]["untold"]) == (0, None)
        with site.gateway() as (url, _):
            until(lambda: seen(url)["state"] == "draining" and seen(url)["cordon"]["tasks"] == 0)
            assert seen(url)["reason"] == answer["reason"]
            dask.close()
            assert not worker.alive()
            until(lambda: seen(url)["cordon"]["untold"])
            with site.scheduler(), rig.dask_worker(site.folder / "dask", site.keys, told):
                until(lambda: seen(url)["cordon"]["tasks"] == 0, what="the new scheduler is told")
                resumed = post(url, "resume")
                assert (resumed["state"], resumed["cordon"]) == ("active", None)
        with site.gateway() as (url, _):
            until(lambda: seen(url)["state"] == "active")


def test_without_a_scheduler_a_worker_is_drained_all_the_same(site: Site) -> None:
    with site.gateway() as (url, _):
        until(lambda: seen(url)["state"] == "active")
        answer = post(url, "drain")
        assert answer["state"] == "draining"
        assert answer["cordon"]["untold"]
        assert post(url, "resume")["state"] == "active"


def test_a_stream_ends_on_a_drained_worker(site: Site) -> None:
    with site.gateway() as (url, _):
        until(lambda: seen(url)["state"] == "active")
        stream = Stream(url, LONG)
        assert post(url, "cordon", {"reason": "x"})["reason"].startswith("cordoned: x, since ")
        assert stream.ended()["done"] is True
        until(lambda: seen(url)["in_flight"] == 0)
        assert seen(url)["state"] == "draining"


def test_a_stream_that_is_cut_by_its_workers_switch_ends_with_an_error_that_says_so(site: Site) -> None:
    with site.gateway() as (url, _):
        until(lambda: seen(url)["state"] == "active")
        stream = Stream(url, ENDLESS)
        post(url, "drain")
        assert seen(url)["in_flight"] == 1
        site.front.stop(kill=True)  # the limit has passed
        last = stream.ended()
        assert last["error"].startswith("the answer broke off on worker w1: ")
        assert not any(line.get("done") for line in stream.lines)
        until(lambda: seen(url)["state"] == "down")
        assert "drained since " in seen(url)["reason"]


def test_what_a_gateway_still_finishes_counts_in_the_one_that_has_taken_over(site: Site) -> None:
    with site.gateway() as (url, old):
        until(lambda: seen(url)["state"] == "active")
        stream = Stream(url, ENDLESS)
        old.popen.send_signal(signal.SIGTERM)
        told = replace(site.told, port=free_port())
        with rig.gateway(site.folder / "gateway", told, site.keys, workers=0) as (new, _):
            until(lambda: seen(new)["in_flight"] == 1)
            stream.leave.set()
            until(lambda: seen(new)["in_flight"] == 0)
            assert old.popen.wait(PATIENCE) == 0
            until(lambda: not list((site.folder / "gateway").glob("ending-*")))


def test_the_command_waits_for_what_streams_and_undrain_brings_it_back(site: Site) -> None:
    path = site.folder / "cluster.yaml"
    path.write_text(CONFIG.format(port=site.told.port))
    token = load_or_create(load(path)).gateway_token
    (site.keys / layout.GATEWAY_TOKEN).write_text(token + "\n")

    command = [sys.executable, "-m", "cluster_ai", "--config", str(path)]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = [*command, *words]
        return subprocess.run(done, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)

    def started(*words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([*command, *words], stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True)

    with rig.gateway(site.folder / "gateway", site.told, site.keys, workers=1) as (url, _):
        stream = Stream(url, ENDLESS, token)
        late = run("drain", "w1", "--timeout", "0s")
        assert (late.returncode, late.stderr.partition(" after")[0]) == (4, "w1: still has 1 request")
        with started("drain", "w1", "--reason", "new fans", "--timeout", "5m") as waiting:
            assert waiting.stdout
            assert waiting.stdout.readline() == "w1: 1 request left\n"
            stream.leave.set()
            said, more = waiting.communicate(timeout=PATIENCE)
        assert waiting.returncode == 0, more
        assert said.startswith("w1: empty; drained: new fans, since ")
        assert more.startswith("w1: Dask isn't told of it: ")
        told = json.loads(run("undrain", "w1", "--json").stdout)
        assert [(it["worker"], it["state"], it["requests"]) for it in told["workers"]] == [("w1", "active", 0)]


def test_a_wrong_body_and_an_unknown_worker_are_refused(site: Site) -> None:
    with site.gateway() as (url, _):
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(url, "drain", {"why": "x"})
        assert caught.value.code == 400
        with pytest.raises(urllib.error.HTTPError) as caught:
            rig.fetch(urllib.request.Request(f"{url}/api/v1/cluster/workers/w9/drain", None, HEADERS, method="POST"))
        assert caught.value.code == 404
