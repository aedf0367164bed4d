"""Who is measured, and how each is started: nginx, a Go proxy, our gateway as a release would run it, LiteLLM."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.gateway.processes import Ports, pinned, running
from cluster_ai import __version__, layout, settings
from cluster_ai.config import hosts, load
from cluster_ai.placement.place import place
from cluster_ai.release.render import render
from cluster_ai.release.units import units

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cluster-ai" / "bench-gateway"
SOURCES = Path(__file__).resolve().parent
MODEL = "fake:latest"
TOKEN = "sk-for-benchmarks"  # noqa: S105
OPENAI, OLLAMA = "/v1/chat/completions", "/api/chat"
WORKERS, SLOTS = 4, 512  # room for all at once: what is measured is the gateway, not a queue


@dataclass(frozen=True, slots=True)
class Target:
    """A contestant that runs. pid: whose CPU and memory count; None: nobody stands between."""

    address: str
    pid: int | None


@dataclass(frozen=True, slots=True)
class Site:
    """What all of them share. upstreams: addresses of the fake workers."""

    cores: tuple[int, ...]  # the contestant's
    others: tuple[int, ...]
    upstreams: tuple[str, ...]
    ports: Ports
    programs: Path


@dataclass(frozen=True, slots=True)
class Program:
    """What can be started. start: with a folder of its own; version: empty where there is none."""

    name: str
    start: Callable[[Site, Path], contextlib.AbstractContextManager[Target]]
    version: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One row: a program, asked by one API."""

    name: str
    title: str
    program: Program
    path: str


def go_environment() -> dict[str, str]:
    return {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-trimpath", "CGO_ENABLED": "0"}


def build() -> Path:
    """The Go programs, compiled. Gives their folder. Raises SystemExit where Go is missing."""
    if shutil.which("go") is None:
        raise SystemExit("bench: the load, the fake workers and the yardstick are written in Go 1.24: install it")
    programs = FOLDER / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-o", str(programs), "./..."], cwd=SOURCES, env=go_environment(), check=True)
    return programs


@contextlib.contextmanager
def upstreams(programs: Path, cores: Sequence[int], ports: Sequence[int]) -> Iterator[str]:
    """The fake workers. Yields the address at which they are told how to behave."""
    command = [str(programs / "upstream"), "-ports", ",".join(map(str, ports)), "-model", MODEL]
    with running(pinned(cores, command), FOLDER / "upstream.log", ready=f"http://127.0.0.1:{ports[0]}/api/version"):
        yield f"127.0.0.1:{ports[0]}"


@contextlib.contextmanager
def _direct(site: Site, folder: Path) -> Iterator[Target]:
    yield Target(site.upstreams[0], None)


@contextlib.contextmanager
def _go(site: Site, folder: Path) -> Iterator[Target]:
    address = f"127.0.0.1:{site.ports.take()}"
    command = [str(site.programs / "goproxy"), "-listen", address, "-workers", ",".join(site.upstreams)]
    with running(pinned(site.cores, command), folder / "log", ready=f"http://{address}/api/version") as pid:
        yield Target(address, pid)


def _go_version() -> str:
    return subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()[2:]


_NGINX = """\
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors warn; worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off; keepalive_requests 1000000; client_body_buffer_size 1m;
    client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
    uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
    upstream workers {{ {servers} keepalive 4096; keepalive_requests 1000000; }}
    server {{
        listen {address} backlog=4096;
        location / {{
            proxy_pass http://workers; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off; proxy_read_timeout 600s;
        }}
    }}
}}
"""


@contextlib.contextmanager
def _nginx(site: Site, folder: Path) -> Iterator[Target]:
    address = f"127.0.0.1:{site.ports.take()}"
    servers = " ".join(f"server {upstream};" for upstream in site.upstreams)
    conf = folder / "nginx.conf"
    conf.write_text(_NGINX.format(folder=folder, servers=servers, address=address))
    command = [_nginx_program(), "-e", str(folder / "errors"), "-p", str(folder), "-c", str(conf)]
    with running(pinned(site.cores, command), folder / "log", ready=f"http://{address}/api/version") as pid:
        yield Target(address, pid)


def _nginx_program() -> str:
    return shutil.which("nginx") or "/usr/sbin/nginx"


def _nginx_version() -> str:
    done = subprocess.run([_nginx_program(), "-v"], capture_output=True, text=True, check=True)
    return done.stderr.strip().rpartition("/")[2].split()[0]


_CLUSTER = """\
version: '1.0'
cluster:
  name: bench
  scheduler: {{host: 127.0.0.1}}
  workers:
{workers}
  models:
    - {{name: '{model}', replicas: all, resources: {{memory: 1GB}}}}
  engine: {{version: '0.17.4', source: ./engine}}
  security: {{tls: {{enabled: false}}}}  # the others speak plain HTTP too
"""


def release_settings(folder: Path) -> settings.GatewaySettings:
    """What `apply` would tell the gateway of a cluster of so many workers, all else by default."""
    (folder / "engine").write_text("#!/bin/sh\n")
    workers = "\n".join(
        f"    - {{name: w{n}, host: 10.99.0.{n}, resources: {{cpu: 8, memory: 32GB}}}}" for n in range(1, WORKERS + 1)
    )
    (folder / "cluster.yaml").write_text(_CLUSTER.format(workers=workers, model=MODEL))
    config = load(folder / "cluster.yaml")
    head = next(host for host in hosts(config) if "head" in host.roles)
    files = render(config, place(config), head, tuple(units(config, head)), {})
    (folder / "gateway.json").write_bytes(files["etc/gateway.json"].content)
    return settings.load(settings.GatewaySettings, folder / "gateway.json")


@contextlib.contextmanager
def _ours(site: Site, folder: Path) -> Iterator[Target]:
    scheduler, dashboard, port = site.ports.take(), site.ports.take(), site.ports.take()
    told = release_settings(folder)
    told = replace(
        told,
        host="127.0.0.1",
        port=port,
        scheduler=f"tcp://127.0.0.1:{scheduler}",
        trusted_networks=(),
        upstreams=tuple(
            replace(upstream, url=f"http://{address}", slots=SLOTS)
            for upstream, address in zip(told.upstreams, site.upstreams, strict=True)
        ),
    )
    (folder / "gateway.json").write_text(settings.dump(told))
    (folder / layout.GATEWAY_TOKEN).write_text(TOKEN)
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--protocol", "tcp", "--host", "127.0.0.1"]
    dask += ["--port", str(scheduler), "--dashboard-address", f"127.0.0.1:{dashboard}"]
    gateway = [sys.executable, "-m", "cluster_ai.gateway", str(folder / "gateway.json")]
    environment = {"PYTHONPATH": str(ROOT), "CREDENTIALS_DIRECTORY": str(folder), "STATE_DIRECTORY": str(folder)}
    with contextlib.ExitStack() as stack:
        ready = f"http://127.0.0.1:{dashboard}/health"
        stack.enter_context(running(pinned(site.others, dask), folder / "dask.log", ready=ready))
        address = f"127.0.0.1:{port}"
        ready = f"http://{address}/health"
        command = pinned(site.cores, gateway)
        yield Target(
            address, stack.enter_context(running(command, folder / "log", environment=environment, ready=ready))
        )


def _litellm_venv() -> Path:
    """LiteLLM in an environment of its own, made once and again when its lock has changed."""
    lock, home = ROOT / "requirements" / "litellm.lock", FOLDER / "litellm-venv"
    stamp = home / "lock"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        print("bench: installing LiteLLM (once)", flush=True)
        venv.create(home, clear=True, with_pip=True)
        pip = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
        stamp.write_bytes(lock.read_bytes())
    return home


@contextlib.contextmanager
def _litellm(site: Site, folder: Path) -> Iterator[Target]:
    port, home = site.ports.take(), _litellm_venv()
    conf = folder / "litellm.yaml"
    models = [
        {
            "model_name": MODEL,
            "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"http://{u}/v1", "api_key": "x"},
        }
        for u in site.upstreams
    ]
    told = {
        "model_list": models,
        "router_settings": {"routing_strategy": "simple-shuffle", "num_retries": 0},
        "litellm_settings": {"request_timeout": 600, "telemetry": False, "drop_params": True},
        "general_settings": {"master_key": TOKEN, "disable_spend_logs": True},
    }
    conf.write_text(json.dumps(told, indent=2))
    environment: Mapping[str, str] = {
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "127.0.0.1",
    }
    command = [str(home / "bin" / "litellm"), "--config", str(conf), "--host", "127.0.0.1", "--port", str(port)]
    ready = f"http://127.0.0.1:{port}/health/liveliness"
    command = pinned(site.cores, [*command, "--num_workers", "1"])
    with running(command, folder / "log", environment=environment, ready=ready, within=300) as pid:
        yield Target(f"127.0.0.1:{port}", pid)


def _litellm_version() -> str:
    ask = "import importlib.metadata as m; print(m.version('litellm'))"
    done = subprocess.run(
        [str(_litellm_venv() / "bin" / "python"), "-c", ask], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


_OURS = Program("ours", _ours, lambda: __version__)

CONTESTANTS = (
    Contestant("direct", "direct", Program("direct", _direct, lambda: ""), OPENAI),
    Contestant("nginx", "nginx", Program("nginx", _nginx, _nginx_version), OPENAI),
    Contestant("go", "Go ReverseProxy", Program("go", _go, _go_version), OPENAI),
    Contestant("ours", "Cluster AI, OpenAI's API", _OURS, OPENAI),
    Contestant("ollama", "Cluster AI, Ollama's API", _OURS, OLLAMA),
    Contestant("litellm", "LiteLLM, 1 worker", Program("litellm", _litellm, _litellm_version), OPENAI),
)
