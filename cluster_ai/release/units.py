"""systemd units of a host, and what each of them runs from.

Every unit has a user of its own, sees no other's state, and may do only what its program needs. Names are in layout.py.
"""

from __future__ import annotations

from cluster_ai import layout
from cluster_ai.config.model import Config, Host, Worker
from cluster_ai.release import processes, sleeping, timers
from cluster_ai.release.service import LIB_VARIABLE, MIB, SANDBOX, Unit, any_address, service, url

# What a component of the head host may use: bounds for a fault, far above what is seen.
HEAD_MEMORY = {
    "scheduler": 4096 * MIB,
    "tasks": 2048 * MIB,
    "gateway": 2048 * MIB,
    "prometheus": 4096 * MIB,
    "alertmanager": 512 * MIB,
    "dashboard": 2048 * MIB,
    "open-webui": 4096 * MIB,
}


def _dask() -> dict[str, str]:
    """Mutual TLS 1.3, nothing else, for every role that a Dask process takes; a peer without power is given up soon."""
    prefix = "DASK_DISTRIBUTED__COMM__"
    files = {f"{role}__{kind.upper()}": name for role in ("SCHEDULER", "WORKER", "CLIENT") for kind, name in _PAIR}
    return {
        **layout.DASK_AT_REST,
        f"{prefix}REQUIRE_ENCRYPTION": "True",
        f"{prefix}TIMEOUTS__TCP": "12s",  # of keepalive (at least 11), which a busy host's kernel answers all the same
        f"{prefix}TLS__CA_FILE": str(layout.TLS / layout.CA_CERT),
        f"{prefix}TLS__MIN_VERSION": "1.3",
        "DASK_DISTRIBUTED__NANNY__PRELOAD": DASK_TLS,
        **{f"{prefix}TLS__{name}": str(layout.TLS / file) for name, file in files.items()},
    }


_PAIR = (("cert", layout.CERT), ("key", layout.KEY))
DASK_TLS = "cluster_ai.tls.preload"


def units(config: Config, host: Host) -> tuple[Unit, ...]:
    """All units of a host, the target last."""
    found: list[Unit] = []
    if "head" in host.roles:
        found += [_scheduler(config), _issuer(), _tasks()]
        found += [_gateway_socket(config), _gateway_holder(), _gateway(config), _prometheus(config)]
        found += [_alertmanager(config)] if config.monitoring.alerts.told else []
        found += [_dashboard(config)] if config.interface.dashboard else []
        found += [_open_webui(config)] if config.interface.open_webui else []
    if host.worker is not None:
        found += [_engine(config, host.worker), _front(host.worker), _worker(config, host.worker)]
    sleeps = host.worker is not None and host.worker.standby is not None
    if host.worker is not None and host.worker.standby is not None:
        found += [sleeping.sleep(host.worker.standby.sleep), sleeping.sleep_path()]
    found += [timers.verify(), timers.verify_timer(), timers.renew(), timers.renew_timer(sleeps=sleeps)]
    names = [unit.name for unit in found]
    wanted = (name for name in names if name not in layout.triggered(names) and "@" not in name)
    return (*found, _target(tuple(wanted)))


def _target(wanted: tuple[str, ...]) -> Unit:
    text = (
        f"[Unit]\nDescription=Cluster AI\n"
        f"Wants={' '.join(wanted)} network-online.target\nAfter=network-online.target {layout.GUARD}\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    return Unit(layout.TARGET, text, launched=False)


def _scheduler(config: Config) -> Unit:
    etc = ("etc/scheduler.json",) if config.scaling.processes else ()
    told = {"CLUSTER_AI_SCHEDULER_SETTINGS": etc[0]} if etc else {}
    command = [
        *("python3", "-m", "distributed.cli.dask_scheduler", "--protocol", "tls"),
        *("--host", any_address(config.scheduler.host), "--port", str(config.scheduler.port)),
        *("--dashboard-address", f"127.0.0.1:{config.scheduler.dashboard_port}"),
        *("--preload", DASK_TLS, "--preload", "cluster_ai.cluster.scheduler_plugin"),
    ]
    text = service(
        *("scheduler", "Dask scheduler", command),
        memory=HEAD_MEMORY["scheduler"],
        tls=True,
        environment={**_dask(), **layout.WORKER_TTL, **told},
    )
    return Unit(layout.SCHEDULER, text, etc, ("app", "lib"))


def _issuer() -> Unit:
    text = service(
        *("issuer", "renews certificates", ["python3", "-m", "cluster_ai.host", "issue", "etc/issuer.json"]),
        memory=256 * MIB,
        tls=True,
        credentials=(layout.ISSUING_CERT, layout.ISSUING_KEY),
    )
    return Unit(layout.ISSUER, text, ("etc/issuer.json",), ("app", "lib"))


def _tasks() -> Unit:
    """Ends before the scheduler that it uses, and with it: what runs then is waited for, the rest is sent again."""
    text = service(
        *("tasks", "tasks", ["python3", "-m", "cluster_ai.tasks", "etc/tasks.json"]),
        memory=HEAD_MEMORY["tasks"],
        tls=True,
        after=f"network.target {layout.SCHEDULER}",
        unit=f"PartOf={layout.SCHEDULER}\n",
        stop=layout.TASKS_GRACE + 20,
        service=f"RuntimeDirectory={layout.TASKS_SOCKET.parent.name}\nRuntimeDirectoryMode=0750\n",
    )
    return Unit(layout.TASKS, text, ("etc/tasks.json",), ("app", "lib"))


def _gateway_socket(config: Config) -> Unit:
    """With TLS it has a second one, which makes it another socket: who changes that has no moment with both kinds."""
    ports = [str(config.gateway.port)]
    ports += [f"127.0.0.1:{layout.GATEWAY_LOCAL_PORT}"] if config.security.tls.enabled else []
    listens = "".join(f"ListenStream={port}\n" for port in ports)
    text = (
        f"[Unit]\nDescription=Cluster AI: where the gateway listens\nPartOf={layout.TARGET}\nAfter={layout.GUARD}\n\n"
        f"[Socket]\n{listens}Backlog=4096\nNoDelay=yes\n\n"
        f"[Install]\nWantedBy={layout.TARGET}\n"
    )
    return Unit(layout.GATEWAY_SOCKET, text, launched=False)


def _gateway_holder() -> Unit:
    """What the socket belongs to: a socket that is asked starts its service, and the gateway is not to be started so.

    Its instances inherit the socket (Sockets= in systemd.service(5)), of which two may run at once. It requires the
    socket, since systemd refuses to start a socket whose service runs already.
    """
    text = (
        f"[Unit]\nDescription=Cluster AI: holds the gateway's socket\nPartOf={layout.TARGET}\n"
        f"Requires={layout.GATEWAY_SOCKET}\nAfter={layout.GATEWAY_SOCKET} {layout.GUARD}\n\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nUser=cluster-ai-gateway\n"
        f"PrivateDevices=yes\nMemoryDenyWriteExecute=yes\n{SANDBOX}\n[Install]\nWantedBy={layout.TARGET}\n"
    )
    return Unit(layout.GATEWAY_HOLDER, text, launched=False)


def _shown(config: Config) -> tuple[str, ...]:
    """Credentials of what speaks TLS to people."""
    tls = config.security.tls
    return (layout.PUBLIC_CERT, layout.PUBLIC_KEY) if tls.enabled and tls.certificate else ()


def _gateway(config: Config) -> Unit:
    text = service(
        *("gateway", "gateway", ["python3", "-m", "cluster_ai.gateway", "etc/gateway.json"]),
        memory=HEAD_MEMORY["gateway"],
        weight=400,
        tls=True,
        credentials=(
            *(layout.GATEWAY_TOKEN, *_shown(config)),
            *((layout.OPEN_WEBUI_KEY,) if config.interface.open_webui else ()),
        ),
        after=f"network.target {layout.GATEWAY_SOCKET} {layout.GATEWAY_HOLDER}",
        unit=f"Requires={layout.GATEWAY_SOCKET}\n",
        kind="notify",
        stop=layout.GATEWAY_GRACE + 30,
        service=f"Sockets={layout.GATEWAY_SOCKET}\nSupplementaryGroups=cluster-ai-tasks\n",
    )
    return Unit(layout.GATEWAY, text, ("etc/gateway.json",), ("app", "lib"))


def _prometheus(config: Config) -> Unit:
    monitoring = config.monitoring
    command = [
        *(
            "/usr/bin/prometheus",
            "--config.file=etc/prometheus.yml",
            f"--web.listen-address=127.0.0.1:{monitoring.port}",
        ),
        *(
            f"--storage.tsdb.path={layout.STATE}/prometheus/data",
            f"--storage.tsdb.retention.time={round(monitoring.retention)}s",
        ),
    ]
    text = service(
        *("prometheus", "Prometheus", command),
        memory=HEAD_MEMORY["prometheus"],
        tls=True,
        credentials=(layout.GATEWAY_TOKEN,),
        stop=60,
    )
    return Unit(layout.PROMETHEUS, text, ("etc/prometheus.yml", "etc/rules.yml"))


def _alertmanager(config: Config) -> Unit:
    """Alone: it looks for no others of its kind."""
    command = [
        *("/usr/bin/prometheus-alertmanager", "--config.file=etc/alertmanager.yml"),
        f"--web.listen-address=127.0.0.1:{config.monitoring.alerts.port}",
        *(f"--storage.path={layout.STATE}/alertmanager/data", "--cluster.listen-address="),
    ]
    alerts = config.monitoring.alerts
    token = (layout.ALERTS_TOKEN,) if alerts.webhook else ()
    password = (layout.ALERTS_PASSWORD,) if alerts.mail and alerts.mail.user else ()
    text = service(
        *("alertmanager", "Alertmanager", command),
        memory=HEAD_MEMORY["alertmanager"],
        credentials=(*token, *password),
    )
    return Unit(layout.ALERTMANAGER, text, ("etc/alertmanager.yml",))


def _dashboard(config: Config) -> Unit:
    tls = config.security.tls
    text = service(
        *("dashboard", "dashboard", ["python3", "-m", "dashboard"]),
        memory=HEAD_MEMORY["dashboard"],
        tls=tls.enabled and tls.certificate is None,
        credentials=(*_shown(config), *((layout.OIDC_SECRET,) if config.security.oidc else ())),
        environment={
            "CLUSTER_AI_DASHBOARD_SETTINGS": "etc/dashboard.json",
            # The provider is known by the host's CAs, not by those of a Python package.
            **({"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"} if config.security.oidc else {}),
        },
        code_writing=True,
    )
    return Unit(layout.DASHBOARD, text, ("etc/dashboard.json",), ("app", "lib"))


def _open_webui(config: Config) -> Unit:
    tls = config.security.tls
    text = service(
        *("open-webui", "Open WebUI", ["python3", "-m", "cluster_ai.openwebui", "etc/open-webui.json"]),
        memory=HEAD_MEMORY["open-webui"],
        weight=50,
        tls=tls.enabled and tls.certificate is None,
        credentials=(
            *(layout.OPEN_WEBUI_KEY, layout.OPEN_WEBUI_SECRET, *_shown(config)),
            *((layout.OIDC_SECRET,) if config.security.oidc else ()),
        ),
        environment={LIB_VARIABLE: "open-webui"},
    )
    return Unit(layout.OPEN_WEBUI, text, ("etc/open-webui.json",), ("app", "open-webui"))


def _engine(config: Config, worker: Worker) -> Unit:
    engine = config.engine
    state = layout.STATE / "engine"
    environment = {
        "OLLAMA_HOST": f"127.0.0.1:{layout.ENGINE_PORT}",
        "OLLAMA_MODELS": f"{state}/models",
        "OLLAMA_NUM_PARALLEL": str(engine.parallel),
        "OLLAMA_CONTEXT_LENGTH": str(engine.context_length),
        "OLLAMA_KEEP_ALIVE": f"{round(engine.keep_alive)}s",
        "OLLAMA_KV_CACHE_TYPE": engine.kv_cache_type,
        # Ollama quantizes the cache only with flash attention; without, it falls back to f16 and doesn't say so.
        **({} if engine.kv_cache_type == "f16" else {"OLLAMA_FLASH_ATTENTION": "1"}),
    }
    text = service(
        *("engine", "Ollama", ["engine/bin/ollama", "serve"]),
        memory=worker.resources.memory,
        environment=environment,
        devices=worker.resources.gpu > 0,
        code_writing=True,
    )
    return Unit(layout.ENGINE, text, parts=("engine",))


def _front(worker: Worker) -> Unit:
    command = ["/usr/sbin/nginx", "-e", "stderr", "-p", ".", "-c", "etc/nginx.conf", "-g", "daemon off;"]
    text = service(
        *("front", "TLS front of the engine", command),
        memory=min(512 * MIB, worker.resources.memory),
        weight=400,
        tls=True,
        stop=120,
        service="KillSignal=SIGQUIT\n",  # nginx then finishes what it serves
    )
    return Unit(layout.FRONT, text, ("etc/nginx.conf",))


def _worker(config: Config, worker: Worker) -> Unit:
    resources, listen = worker.resources, any_address(worker.host)
    cpu, memory = processes.shares(config, worker).first
    threads = cpu + config.engine.parallel  # who waits for an answer takes no core; resources bound the rest
    port, nanny = layout.DASK_WORKER_PORTS[0], layout.DASK_NANNY_PORTS
    command = [
        *("python3", "-m", "distributed.cli.dask_worker", url("tls", config.scheduler.host, config.scheduler.port)),
        *("--name", worker.name, "--nthreads", str(threads), "--memory-limit", str(memory)),
        *("--resources", f"GPU={resources.gpu},MEMORY={memory},CPU={cpu},ENGINE={config.engine.parallel}"),
        *("--listen-address", url("tls", listen, port), "--contact-address", url("tls", worker.host, port)),
        *("--nanny-port", f"{nanny[0]}:{nanny[1]}", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
        *(
            "--local-directory",
            str(layout.STATE / "worker"),
            "--preload",
            DASK_TLS,
            "--preload",
            "cluster_ai.cluster.worker_plugin",
        ),
    ]
    text = service(
        *("worker", "Dask worker", command),
        memory=resources.memory,
        weight=50,
        tls=True,
        environment={**_dask(), "CLUSTER_AI_WORKER_SETTINGS": "etc/worker.json", "CLUSTER_AI_DELEGATED": "1"},
        devices=resources.gpu > 0,
        code_writing=True,
        delegate=True,
        service="KillMode=mixed\n"  # the nanny ends its worker
        "OOMPolicy=continue\n",  # a task that takes too much memory ends, and nothing else
    )
    return Unit(layout.WORKER, text, ("etc/worker.json",), ("app", "lib"))
