"""Releases from the real package index, and the files in them as the real programs take them."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_ai import layout, settings
from cluster_ai.config import load
from cluster_ai.config.model import Config, hosts
from cluster_ai.errors import BundleError
from cluster_ai.placement.place import place
from cluster_ai.release import parts
from cluster_ai.release.build import desired
from cluster_ai.release.model import HostFacts, Release
from cluster_ai.release.nginx import nginx
from cluster_ai.release.store import Store
from cluster_ai.security import ca
from cluster_ai.settings import DashboardSettings
from tests.rig import cluster as rig
from tests.rig.processes import PATIENCE, free_port, running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]  # whole releases are fetched and built

CLUSTER = """\
version: '1.0'
cluster:
  name: 'test'
  scheduler: {host: '10.9.9.1'}
  workers:
    - {name: 'b', host: '10.9.9.2', resources: {cpu: 2, memory: '8GB'}}
  models: []
  engine: {source: './ollama'}
"""
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

# What of each package is sure to be needed by what runs on hosts.
IMPORTS = {
    "10.9.9.1": "aiohttp, distributed.cli.dask_scheduler, fastapi, httptools, ollama, pandas, prometheus_api_client,"
    " prometheus_client, pyarrow.compute, pyarrow.parquet, streamlit.web.cli, uvicorn, uvloop, altair, numpy.testing,"
    " cluster_ai.gateway.server, cluster_ai.host.gate, cluster_ai.cluster.scheduler_plugin",
    "b": "aiohttp, distributed.cli.dask_worker, psutil, pynvml, cluster_ai.cluster.worker_plugin, cluster_ai.host.gate",
}


def configuration(folder: Path) -> Config:
    (folder / "cluster.yaml").write_text(CLUSTER)
    (folder / "ollama").write_text("#!/bin/sh\necho engine $OLLAMA_HOST\n")
    return load(folder / "cluster.yaml")


def releases(config: Config, facts: HostFacts) -> dict[str, Release]:
    return desired(config, place(config), {host.name: facts for host in hosts(config)}, Store.of(config))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, Release]]:
    config = configuration(tmp_path_factory.mktemp("cluster"))
    return config, releases(config, HostFacts("debian-12", HERE, "x86_64"))


def unpack(release: Release, root: Path) -> Path:
    place = root / "releases" / release.digest
    for part in release.parts:
        with tarfile.open(part.path) as file:
            file.extractall(place, filter="data")
    (place / "manifest.json").write_bytes(release.manifest)
    return place


@pytest.mark.parametrize("host", sorted(IMPORTS))
def test_what_runs_on_a_host_finds_all_it_imports_in_its_release(
    built: tuple[Config, dict[str, Release]], tmp_path: Path, host: str
) -> None:
    place = unpack(built[1][host], tmp_path)
    command = f"import sys; import {IMPORTS[host]}; print(*sys.path, sep='\\n')"
    done = subprocess.run(
        [place / "bin/launch", sys.executable, "-S", "-c", command],
        env={"PATH": "/usr/bin:/bin", "CACHE_DIRECTORY": str(tmp_path / "cache"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [str(place / "app"), str(place / "lib")]
    assert not [path for path in place.rglob("*") if path.suffix == ".pyc"]
    assert list((tmp_path / "cache").rglob("*.pyc"))


def test_the_dashboard_of_a_release_has_its_pages(built: tuple[Config, dict[str, Release]], tmp_path: Path) -> None:
    """Streamlit gives none to an application that it takes to be under development, as one outside of site-packages."""
    place, port = unpack(built[1]["10.9.9.1"], tmp_path), free_port()
    nowhere = "http://127.0.0.1:9"
    told = DashboardSettings("test", "127.0.0.1", port, "127.0.0.1", None, None, nowhere, nowhere, nowhere)
    (tmp_path / "dashboard.json").write_text(settings.dump(told))
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "CACHE_DIRECTORY": str(tmp_path / "cache"),
        "CLUSTER_AI_DASHBOARD_SETTINGS": str(tmp_path / "dashboard.json"),
    }
    command = [str(place / "bin/launch"), sys.executable, "-S", "-m", "dashboard"]
    url = f"http://127.0.0.1:{port}"

    def there() -> bool:
        return rig.fetch(f"{url}/_stcore/health")[1] == b"ok"

    with running(command, tmp_path / "log", environment=environment, until_ready=there, within=600):
        for page in ("", "overview", "workers"):
            headers, body = rig.fetch(f"{url}/{page}")
            assert (headers["content-type"].partition(";")[0], b"<script" in body) == ("text/html", True)


def test_a_release_is_built_for_another_architecture_and_python_than_ours(
    built: tuple[Config, dict[str, Release]],
) -> None:
    config, _ = built
    store = Store.of(config)
    worker = hosts(config)[1]
    part = parts.lib(worker, HostFacts("debian-13", "3.13", "aarch64"), store, None).part
    with tarfile.open(part.path) as file:
        libraries = [name for name in file.getnames() if name.endswith(".so")]
    assert [name for name in libraries if "cpython-313-aarch64" in name]
    assert not [name for name in libraries if "x86_64" in name or "cpython-311" in name]


def test_with_all_wheels_in_the_store_no_index_is_needed_and_the_parts_are_the_same_bytes(
    built: tuple[Config, dict[str, Release]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, before = built
    again = configuration(tmp_path)
    shutil.copytree(Store.of(config).wheels, Store.of(again).wheels)
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9/simple")
    facts = HostFacts("debian-12", HERE, "x86_64")
    for host in hosts(again):
        of_host = next(part for part in before[host.name].parts if part.name == "lib")
        assert parts.lib(host, facts, Store.of(again), None).part.sha256 == of_host.sha256


def test_a_package_that_is_not_what_the_lock_says_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configuration(tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/worker.lock").write_text(f"six==1.17.0 \\\n    --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(parts, "ROOT", tmp_path)
    with pytest.raises(BundleError, match="DO NOT MATCH THE HASHES"):
        parts.lib(hosts(config)[1], HostFacts("debian-12", HERE, "x86_64"), Store.of(config), None)
    assert not list(Store.of(config).wheels.iterdir())


def test_a_release_that_was_built_costs_next_to_nothing_to_know(built: tuple[Config, dict[str, Release]]) -> None:
    config, _ = built
    facts = HostFacts("debian-12", HERE, "x86_64")
    releases(config, facts)
    begin = time.process_time()
    assert len(releases(config, facts)) == 2
    assert time.process_time() - begin < 0.2  # here 0.01; much more means that something is built again


class Engine(http.server.BaseHTTPRequestHandler):
    """In the engine's place: answers with the Host header that it saw."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"host": self.headers["Host"]}).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def front(built: tuple[Config, dict[str, Release]], tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A real nginx with the release's file: its port, and a folder with certificates."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        pytest.skip("no nginx here")
    config, _ = built
    authority = ca.create("test")
    pairs = {
        "server": ca.issue(authority, "b", ["127.0.0.1"], "worker"),
        "head": ca.issue(authority, "OU=worker", ["10.9.9.1"], "head"),
        "worker": ca.issue(authority, "OU=head", ["10.9.9.3"], "worker"),
        "foreign": ca.issue(ca.create("test"), "head", ["10.9.9.1"], "head"),
    }
    (tmp_path / "ca.pem").write_bytes(authority.cert)
    for name, pair in pairs.items():
        (tmp_path / f"{name}.pem").write_bytes(pair.cert)
        (tmp_path / f"{name}.key").write_bytes(pair.key)
    engine = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    thread = threading.Thread(target=engine.serve_forever, args=(0.05,))
    thread.start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys = layout.TLS
    (tmp_path / "cert.pem").write_bytes(pairs["server"].cert)
    (tmp_path / "key.pem").write_bytes(pairs["server"].key)
    worker = config.workers[0]
    text = nginx(config, worker)
    for old, new in {
        str(keys): str(tmp_path),
        str(layout.STATE / "front"): str(tmp_path),
        f"127.0.0.1:{layout.ENGINE_PORT}": f"127.0.0.1:{engine.server_port}",
        f"listen {layout.FRONT_PORT} ssl": f"listen 127.0.0.1:{port} ssl",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "nginx.conf").write_text(text)
    command = [program, "-e", "stderr", "-p", str(tmp_path), "-c", "nginx.conf", "-g", "daemon off; user root;"]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None
        yield port, tmp_path
        process.terminate()
    engine.shutdown()
    thread.join()
    engine.server_close()


def ask(port: int, folder: Path, name: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[int, str]:
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.maximum_version = version
    if name:
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    try:
        with urllib.request.urlopen(
            f"https://127.0.0.1:{port}/api/version", context=context, timeout=PATIENCE
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def test_the_engines_front_lets_in_the_head_and_nobody_else(front: tuple[int, Path]) -> None:
    port, folder = front
    assert ask(port, folder, "head") == (200, f'{{"host": "localhost:{layout.ENGINE_PORT}"}}')
    assert ask(port, folder, "worker")[0] == 403
    assert ask(port, folder, None)[0] == 400
    assert ask(port, folder, "foreign")[0] == 400


def test_the_engines_front_takes_a_new_certificate_without_being_told(front: tuple[int, Path]) -> None:
    port, folder = front

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=PATIENCE)

    first = shown()
    assert first == (folder / "cert.pem").read_text()
    (folder / "cert.pem").write_bytes((folder / "worker.pem").read_bytes())
    (folder / "key.pem").write_bytes((folder / "worker.key").read_bytes())
    assert shown() == (folder / "worker.pem").read_text()


def test_the_engines_front_speaks_tls_1_3_alone(front: tuple[int, Path]) -> None:
    port, folder = front
    with pytest.raises(urllib.error.URLError, match=r"(?i)protocol version"):
        ask(port, folder, "head", ssl.TLSVersion.TLSv1_2)
