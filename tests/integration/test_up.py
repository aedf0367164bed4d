"""`cluster-ai up` and `down` with every real process: scheduler, workers, engines, gateway, Prometheus, dashboard."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster_ai.local.state import processes
from tests.rig.processes import PATIENCE, free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

SOURCE = Path(__file__).parents[2]
FLAGS = ("gateway", "dashboard", "dask", "dask-dashboard", "prometheus", "engine")


@dataclass
class Place:
    """A folder to start a cluster in, with ports of its own."""

    folder: Path
    ports: Mapping[str, int]
    environment: Mapping[str, str]

    @property
    def root(self) -> Path:
        return self.folder / ".cluster-ai"

    @property
    def flags(self) -> list[str]:
        return [word for name, port in self.ports.items() for word in (f"--{name}-port", str(port))]

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "local.json").read_text()))

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cluster_ai", *words],
            cwd=self.folder,
            env={**os.environ, **self.environment, **environment, "PYTHONPATH": str(SOURCE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        with self.start(*words, **environment) as process:
            out, err = process.communicate(timeout=2 * PATIENCE)
            return process.returncode, out, err

    def up(self, **environment: str) -> str:
        code, out, err = self.run("up", *self.flags, **environment)
        assert code == 0, err
        return out


@contextlib.contextmanager
def place_in(folder: Path, without: tuple[str, ...] = ("ollama",)) -> Iterator[Place]:
    """A place whose PATH lacks some programs. Whatever a test leaves there ends with it."""
    programs = folder / "bin"
    programs.mkdir()
    if "prometheus" not in without and (found := shutil.which("prometheus")):
        (programs / "prometheus").symlink_to(found)
    environment = {"PATH": str(programs), "CLUSTER_AI_OLLAMA": ""}
    place = Place(folder, {flag: free_port() for flag in FLAGS}, environment)
    try:
        yield place
    finally:
        place.run("down")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with place_in(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, str]]:
    """One cluster, up, for the tests that leave it up; and what `up` printed."""
    with place_in(tmp_path_factory.mktemp("cluster")) as found:
        yield found, found.up()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return value


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as response:
        body = response.read().decode()
    return json.loads(body) if body[:1] in "[{" else body


def generate(gateway: str) -> dict[str, Any]:
    body = {"model": "smollm2:135m", "prompt": "Hello", "stream": False, "options": {"num_predict": 4}}
    request = urllib.request.Request(f"{gateway}/api/generate", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return dict(json.load(response))


def active(place: Place) -> set[str]:
    workers = get(f"{place.state['gateway']}/api/v1/cluster/status")["workers"]
    return {w["name"] for w in workers if w["state"] == "active"}


def everyone(place: Place) -> list[psutil.Process]:
    """The processes of a cluster, by descent, not by name: the watcher, the supervisor, and all under it."""
    watcher = psutil.Process(place.state["pid"]).parent()
    assert watcher is not None
    return [watcher, *watcher.children(recursive=True)]


def engine(place: Place, number: int) -> psutil.Process | None:
    port = json.loads((place.root / f"local/etc/worker-{number}.json").read_text())["engine_url"].rpartition(":")[2]
    with contextlib.suppress(psutil.Error):
        found = [p for p in psutil.Process(place.state["pid"]).children() if port in p.cmdline()]
        return found[0] if found else None
    return None


def alive(were: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still are; a zombie has ended, and waits only for this machine's init."""
    found = []
    for process in were:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def program(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):  # an engine starts some that soon end
        return process.exe()
    return ""


def nothing_left(place: Place) -> bool:
    return not processes(place.root) and not (place.root / "local.json").exists()


def test_up_ends_with_a_real_answer_the_addresses_and_how_to_stop(cluster: tuple[Place, str]) -> None:
    place, out = cluster
    assert re.search(r"^> .+\n.{20,}\n\(worker-[12], \d+ tokens/s\)$", out, re.MULTILINE | re.DOTALL), out
    for name in ("gateway", "dashboard", "prometheus", "dask"):
        assert f"127.0.0.1:{place.ports[name]}" in out
    assert "cluster-ai down" in out


def test_every_part_that_is_named_answers(cluster: tuple[Place, str]) -> None:
    place, _ = cluster
    state = place.state
    assert active(place) == {"worker-1", "worker-2"}
    assert get(f"{state['dashboard']}/_stcore/health") == "ok"
    assert get(f"{state['dask_dashboard']}/health") == "ok"
    jobs = {"gateway", "scheduler", "prometheus"}

    def healthy() -> bool:
        targets = get(f"{state['prometheus']}/api/v1/targets")["data"]["activeTargets"]
        return {t["labels"]["job"] for t in targets if t["health"] == "up"} == jobs

    wait_for(healthy, "Prometheus to scrape everything")


def test_nothing_listens_beyond_loopback(cluster: tuple[Place, str]) -> None:
    listening = [c for p in everyone(cluster[0]) for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert {c.laddr[0] for c in listening} == {"127.0.0.1"}


def test_dask_takes_nobody_without_the_clusters_certificate(cluster: tuple[Place, str]) -> None:
    context = ssl.create_default_context(cafile=str(cluster[0].root / "local/credentials/ca.pem"))

    def talk() -> None:
        address = ("127.0.0.1", cluster[0].ports["dask"])
        with (
            socket.create_connection(address, 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
        ):
            assert tls.version() == "TLSv1.3"
            tls.recv(1)  # in TLS 1.3 a client learns of its refusal with the first bytes

    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        talk()


def test_a_second_up_says_that_it_is_up(cluster: tuple[Place, str]) -> None:
    place, _ = cluster
    before = place.state["pid"]
    out = place.up()
    assert "already up" in out
    assert f"127.0.0.1:{place.ports['gateway']}" in out
    assert place.state["pid"] == before


def test_status_needs_no_cluster_yaml_for_it(cluster: tuple[Place, str]) -> None:
    place, _ = cluster
    code, out, err = place.run("status")
    assert code == 0, err
    assert "worker-1" in out
    assert f"Gateway {place.state['gateway']}: " in out


def test_its_workers_are_drained_and_its_logs_shown_as_those_of_hosts_are(cluster: tuple[Place, str]) -> None:
    place, _ = cluster
    assert place.run("cordon", "worker-1", "--reason", "new fans")[1].startswith("worker-1: cordoned: new fans, since ")
    code, out, err = place.run("drain", "worker-1", "--reason", "new fans", "--timeout", "5m")
    assert code == 0, err
    assert "worker-1: empty; drained: new fans, since " in out
    assert place.run("undrain", "worker-1")[:2] == (0, "worker-1: active\n")
    code, out, err = place.run("logs", "localhost", "gateway", "--lines", "1000", PATH=os.environ["PATH"])
    assert code == 0, err
    assert "/api/v1/cluster/workers/worker-1/drain" in out


def test_a_port_in_use_is_named_with_its_holder_and_the_flag(cluster: tuple[Place, str], tmp_path: Path) -> None:
    with place_in(tmp_path) as other:
        ports = {**other.ports, "gateway": cluster[0].ports["gateway"]}
        code, _, err = Place(tmp_path, ports, other.environment).run("up", *Place(tmp_path, ports, {}).flags)
        assert code == 5
        assert re.search(
            rf"gateway: port {ports['gateway']} is in use by process \d+ \(.*--gateway-port", err, re.DOTALL
        )
        assert nothing_left(other)


def test_test_prompts_tell_by_their_exit_code_whether_models_still_answer_right(cluster: tuple[Place, str]) -> None:
    place, _ = cluster
    code, _, err = place.run("prompts")
    assert code == 64
    assert "there is no test prompt" in err
    url = f"{place.state['gateway']}/api/v1/templates"
    for name, expects in (("any", ""), ("never", "no model says this")):
        body = json.dumps({"text": "Say hello.", "description": expects, "shared": True}).encode()
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{url}/test-{name}", body, headers, method="PUT")).close()
    code, out, _ = place.run("prompts", "--json")
    assert code == 2
    assert {it["prompt"]: (it["passed"], it["changed"]) for it in json.loads(out)["answers"]} == {
        "any": (True, None),
        "never": (False, None),
    }
    urllib.request.urlopen(urllib.request.Request(f"{url}/test-never?shared=true", method="DELETE")).close()
    code, out, _ = place.run("prompts", "smollm2:135m")
    assert code == 0, out
    assert "the same" in out


def test_an_engine_that_is_killed_comes_back_and_answers(cluster: tuple[Place, str]) -> None:
    place, _ = cluster
    old = engine(place, 1)
    assert old is not None
    old.kill()
    generate(place.state["gateway"])  # the other one serves meanwhile
    new = wait_for(lambda: (p := engine(place, 1)) and p.pid != old.pid and p, "the engine's return")
    wait_for(lambda: active(place) == {"worker-1", "worker-2"}, "the gateway to use it")
    assert new.is_running()
    assert "started again" in (place.root / "local/logs/supervisor.log").read_text()


def test_down_leaves_no_process_and_is_idempotent(cluster: tuple[Place, str]) -> None:
    place, _ = cluster
    were = everyone(place)
    assert len(were) > 8
    code, out, _ = place.run("down")
    assert (code, out) == (0, "The cluster is stopped.\n")
    assert not alive(were)
    assert nothing_left(place)
    assert place.run("down")[:2] == (0, "No cluster was up here.\n")


@pytest.mark.parametrize("moment", ["at once", "supervised", "ready", "asking"])
def test_an_interrupt_midway_leaves_no_process(place: Place, moment: str) -> None:
    with place.start("up", *place.flags) as process:
        assert process.stderr
        if moment == "supervised":
            wait_for(lambda: (place.root / "local.json").exists() or process.poll() is not None, "the supervisor")
        elif moment != "at once":
            assert any(moment in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        if moment == "at once":  # Python loses one that comes while it clears an object away; people press again
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    # At once may be before Python itself has begun, which then ends in its own way.
    assert process.returncode in ((130, -signal.SIGINT, 1) if moment == "at once" else (130,))
    assert nothing_left(place)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whoever_ends_up_midway_leaves_no_process(place: Place, number: signal.Signals) -> None:
    with place.start("up", *place.flags) as process:
        assert process.stderr
        assert any("ready" in line for line in process.stderr)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)
    wait_for(lambda: nothing_left(place), "all processes to end")


def test_without_prometheus_a_smaller_cluster_says_what_it_lacks(tmp_path: Path) -> None:
    with place_in(tmp_path, without=("ollama", "prometheus")) as place:
        out = place.up()
        assert re.search(r"^lacks +no Prometheus.*apt install prometheus", out, re.MULTILINE)
        assert place.state["prometheus"] is None
        assert generate(place.state["gateway"])["done"]
        were = everyone(place)

        os.kill(place.state["pid"], signal.SIGKILL)
        wait_for(lambda: not alive(were), "all processes to end")
        wait_for(lambda: nothing_left(place), "the state to be gone")
        assert place.run("down")[1] == "No cluster was up here.\n"


def test_a_part_that_does_not_start_is_named_with_its_last_words_and_the_rest_ends(place: Place) -> None:
    program = place.folder / "bin/ollama"
    program.write_text("#!/bin/sh\necho 'no such card'\nexit 3\n")
    program.chmod(0o755)
    program.with_name("sh").symlink_to("/bin/sh")
    code, _, err = place.run("up", *place.flags)
    assert code == 5
    assert re.search(r"^engine-[12]: ended while starting: ended with exit code 3\n  \| no such card\n", err), err
    assert "-> " in err
    assert nothing_left(place)


OLLAMA = os.environ.get("CLUSTER_AI_OLLAMA") or shutil.which("ollama")


@pytest.mark.skipif(not OLLAMA, reason="no Ollama here: neither on the PATH nor in CLUSTER_AI_OLLAMA")
def test_an_installed_ollama_is_the_engine_and_leaves_no_process_either(place: Place) -> None:
    out = place.up(CLUSTER_AI_OLLAMA=str(OLLAMA))
    assert re.search(r"^engine +ollama, on worker-1, worker-2$", out, re.MULTILINE)
    were = everyone(place)
    assert [program(it) for it in were].count(os.path.realpath(str(OLLAMA))) >= 4  # two servers, two runners
    os.kill(place.state["pid"], signal.SIGKILL)
    wait_for(lambda: not alive(were), "all processes to end")


def test_a_file_for_config_gives_name_and_ports(place: Place) -> None:
    file = place.folder / "mine" / "cluster.yaml"
    file.parent.mkdir()
    ports = place.ports
    file.write_text(
        f"""\
version: '1.0'
cluster:
  name: 'mine'
  scheduler: {{host: 'localhost', port: {ports["dask"]}, dashboard_port: {ports["dask-dashboard"]}}}
  workers:
    - name: 'w'
      resources: {{cpu: 2, memory: '8GB'}}
  gateway: {{port: {ports["gateway"]}}}
  monitoring: {{port: {ports["prometheus"]}}}
  interface: {{dashboard: false}}
"""
    )
    code, out, err = place.run("--config", str(file), "up", "--engine-port", str(ports["engine"]))
    try:
        assert code == 0, err
        assert "dashboard" not in out
        assert f"--config {file} down" in out
        assert get(f"http://127.0.0.1:{ports['gateway']}/api/v1/cluster/status")["cluster"] == "mine"
    finally:
        stopped = place.run("--config", str(file), "down")
    assert stopped[1] == "The cluster is stopped.\n"
    assert not processes(file.parent / ".cluster-ai")
