"""The files under etc/ of a host: settings of our components, and configuration of Prometheus. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster_ai import layout, settings
from cluster_ai.addresses import in_url
from cluster_ai.config.model import Config, Host, Worker, hosts
from cluster_ai.metrics.rules import rules
from cluster_ai.placement.need import budget
from cluster_ai.release import processes
from cluster_ai.release.alertmanager import alertmanager
from cluster_ai.release.catalog import catalog, context, options
from cluster_ai.release.nginx import nginx
from cluster_ai.release.ports import ports
from cluster_ai.release.service import Unit, any_address, url

if TYPE_CHECKING:
    from cluster_ai.placement.place import Placement

LAUNCH = """\
#!/bin/sh
# Runs "$@" in the real place of this release, whatever `current` is later.
set -eu
root=$(CDPATH='' cd -P -- "$(dirname -- "$0")/.." && pwd -P)
cd -- "$root"
releases=${root%/*}

# The packages, by preference where they were unpacked: the same files as in here, but by a name that the next release
# has too, and with it their bytecode, which Python keeps by path. Else every release would begin with compiling them.
name=${CLUSTER_AI_LIB:-lib}
lib=${releases%/*}/parts/$(sed -n 's/.*"'"$name"'":"\\([0-9a-f]\\{64\\}\\)".*/\\1/p' manifest.json)/$name
[ -d "$lib" ] || lib=$root/$name
export PYTHONPATH="$root/app:$lib" PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1

# Bytecode goes to the unit's cache, or where the caller says; never into a release.
: "${PYTHONPYCACHEPREFIX:=${CACHE_DIRECTORY:-}}"
if [ -n "$PYTHONPYCACHEPREFIX" ]; then
    export PYTHONPYCACHEPREFIX
    for old in "$PYTHONPYCACHEPREFIX$releases"/* "$PYTHONPYCACHEPREFIX${releases%/*}/parts"/*; do
        [ -d "${old#"$PYTHONPYCACHEPREFIX"}" ] || rm -rf "$old"
    done
else
    export PYTHONDONTWRITEBYTECODE=1
fi
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    executable: bool = False


def render(
    config: Config, placement: Placement, host: Host, wanted: tuple[Unit, ...], blobs: Mapping[str, str]
) -> dict[str, File]:
    """Every file of the part "host", by its path in the release. blobs: model -> SHA-256 of its GGUF file."""
    text = {"etc/host.json": settings.dump(_host(config, placement, host, wanted, blobs))}
    text["etc/renew.json"] = settings.dump(settings.RenewSettings(config.scheduler.host, layout.ISSUER_PORT))
    if "head" in host.roles:
        text["etc/issuer.json"] = settings.dump(_issuer(config))
        text["etc/gateway.json"] = settings.dump(_gateway(config, placement, blobs))
        text["etc/tasks.json"] = settings.dump(_tasks(config, placement))
        if scheduler := processes.of_scheduler(config):
            text["etc/scheduler.json"] = settings.dump(scheduler)
        text["etc/prometheus.yml"] = prometheus(config)
        text["etc/rules.yml"] = rules()
        if config.monitoring.alerts.told:
            text["etc/alertmanager.yml"] = alertmanager(config)
        if config.interface.dashboard:
            text["etc/dashboard.json"] = settings.dump(_dashboard(config))
        if config.interface.open_webui:
            text["etc/open-webui.json"] = settings.dump(_open_webui(config))
    if host.worker is not None:
        text["etc/worker.json"] = settings.dump(_worker(config, placement, host.worker))
        text["etc/nginx.conf"] = nginx(config, host.worker)
    text |= {f"units/{unit.name}": unit.text for unit in wanted}
    return {
        "bin/launch": File(LAUNCH.encode(), executable=True),
        **{path: File(t.encode()) for path, t in text.items()},
    }


def _scheduler_url(config: Config) -> str:
    return url("tls", config.scheduler.host, config.scheduler.port)


def _host(
    config: Config, placement: Placement, host: Host, wanted: tuple[Unit, ...], blobs: Mapping[str, str]
) -> settings.HostSettings:
    head = "head" in host.roles
    names = [unit.name for unit in wanted]
    listeners = {layout.NODE_EXPORTER_PORT: layout.NODE_EXPORTER, **ports(config, host)}
    dashboard, open_webui = (head and it for it in (config.interface.dashboard, config.interface.open_webui))
    scheme = "https" if config.security.tls.enabled else "http"
    models = {model.name: model for model in config.models}
    placed = placement.on(host.worker.name) if host.worker else ()
    return settings.HostSettings(
        name=host.name,
        roles=tuple(sorted(host.roles)),
        units=tuple(name for name in names if name not in {layout.TARGET, *layout.triggered(names)}),
        listeners=tuple(settings.Listener(port, unit) for port, unit in sorted(listeners.items())),
        scheduler=_scheduler_url(config),
        gateway_url=url("http", "127.0.0.1", gateway_port(config)) if head else None,
        prometheus_url=url("http", "127.0.0.1", config.monitoring.port) if head else None,
        dashboard_url=url(scheme, "127.0.0.1", config.interface.dashboard_port) if dashboard else None,
        open_webui_url=url(scheme, "127.0.0.1", config.interface.open_webui_port) if open_webui else None,
        engine=config.engine.version if host.worker else None,
        engine_url=url("http", "127.0.0.1", layout.ENGINE_PORT) if host.worker else None,
        models=tuple(
            settings.PlacedModel(
                *(p.model, p.processor, blobs.get(p.model)),
                options=options(config, models[p.model]),
                quantize=models[p.model].quantize,
            )
            for p in placed
        ),
    )


def _gateway(config: Config, placement: Placement, blobs: Mapping[str, str]) -> settings.GatewaySettings:
    return settings.GatewaySettings(
        cluster=config.name,
        host="",  # it is handed its socket by systemd
        port=config.gateway.port,
        policy=config.gateway.policy,
        trusted_networks=config.gateway.trusted_networks,
        scheduler=_scheduler_url(config),
        upstreams=tuple(
            settings.Upstream(
                name=worker.name,
                url=url("https", worker.host, layout.FRONT_PORT),
                models=_names(placement, worker),
                slots=config.engine.parallel,
                gpu=worker.resources.gpu,
                memory=worker.resources.gpu_memory if worker.resources.gpu else worker.resources.memory,
                on_gpu=tuple(p.model for p in placement.on(worker.name) if p.processor == "gpu"),
                gpu_room=budget(worker.resources).gpu,
                ram_room=budget(worker.resources).ram,
                standby=_standby(worker),
                speeds=dict(worker.speeds),
            )
            for worker in config.workers
        ),
        models={model.name: context(config, model) for model in config.models},
        tasks=str(layout.TASKS_SOCKET),
        rollouts=str(layout.ROLLOUTS),
        plan=str(layout.PLAN),
        context=config.gateway.context,
        limits=settings.LimitSettings(**dataclasses.asdict(config.gateway.limits)),
        traces=config.monitoring.traces,
        catalog=catalog(config, blobs),
        kv_cache=config.engine.kv_cache_type,
        blobs=str(layout.BLOBS),
        lease=str(layout.LEASE),
        oidc=_oidc(config),
        prometheus=url("http", "127.0.0.1", config.monitoring.port),
        shows=_shows(config),
    )


def _issuer(config: Config) -> settings.IssuerSettings:
    return settings.IssuerSettings(
        port=layout.ISSUER_PORT,
        hosts=tuple(
            settings.Registered(host.name, "head" if "head" in host.roles else "worker", host.sans)
            for host in hosts(config)
        ),
    )


def _tasks(config: Config, placement: Placement) -> settings.TasksSettings:
    return settings.TasksSettings(
        scheduler=_scheduler_url(config),
        socket=str(layout.TASKS_SOCKET),
        workers=tuple(_task_worker(config, placement, it) for it in config.workers),
    )


def _task_worker(config: Config, placement: Placement, worker: Worker) -> settings.TaskWorker:
    shares = processes.shares(config, worker)
    return settings.TaskWorker(
        *(worker.name, *shares.first, worker.resources.gpu, _names(placement, worker)),
        data=config.tasks.data is not None,
        processes=shares.most,
    )


def _standby(worker: Worker) -> settings.StandbySettings | None:
    it = worker.standby
    return settings.StandbySettings(it.mac, it.wake, it.broadcast, it.idle, it.dry_run) if it else None


def _names(placement: Placement, worker: Worker) -> tuple[str, ...]:
    return tuple(placed.model for placed in placement.on(worker.name))


def _worker(config: Config, placement: Placement, worker: Worker) -> settings.WorkerSettings:
    return settings.WorkerSettings(
        name=worker.name,
        scheduler=_scheduler_url(config),
        engine_url=url("http", "127.0.0.1", layout.ENGINE_PORT),
        cpu=worker.resources.cpu,
        memory=worker.resources.memory,
        gpu=worker.resources.gpu,
        models=_names(placement, worker),
        data=config.tasks.data,
        processes=processes.of_worker(config, worker),
        standby=worker.standby is not None,
    )


def _dashboard(config: Config) -> settings.DashboardSettings:
    oidc = config.security.oidc
    return settings.DashboardSettings(
        cluster=config.name,
        address=any_address(config.scheduler.host),
        port=config.interface.dashboard_port,
        host=config.scheduler.host,
        shows=_shows(config),
        oidc=settings.DashboardOidc(oidc.issuer, oidc.client_id, f"{config.dashboard_url}/oauth2callback")
        if oidc
        else None,
        gateway_url=url("http", "127.0.0.1", gateway_port(config)),
        prometheus_url=url("http", "127.0.0.1", config.monitoring.port),
        dask_url=url("http", "127.0.0.1", config.scheduler.dashboard_port),
    )


def _open_webui(config: Config) -> settings.OpenWebuiSettings:
    oidc = config.security.oidc
    return settings.OpenWebuiSettings(
        address=any_address(config.scheduler.host),
        port=config.interface.open_webui_port,
        shows=_shows(config),
        url=config.open_webui_url,
        gateway_url=url("http", "127.0.0.1", gateway_port(config)),
        oidc=settings.OpenWebuiOidc(
            issuer=oidc.issuer,
            client=oidc.client_id,
            redirect=f"{config.open_webui_url}/oauth/oidc/callback",
            role_claim=oidc.role_claim,
            users=tuple(dict.fromkeys(it for role in ("user", "operator", "admin") for it in oidc.roles[role])),
            admins=oidc.roles["admin"],
        )
        if oidc
        else None,
    )


def local(port: int) -> str:
    return f"127.0.0.1:{port}"


def gateway_port(config: Config) -> int:
    """Where the head host's own reach the gateway, in plain HTTP on loopback."""
    return layout.GATEWAY_LOCAL_PORT if config.security.tls.enabled else config.gateway.port


def _oidc(config: Config) -> settings.OidcSettings | None:
    it = config.security.oidc
    if it is None:
        return None
    given = tuple(settings.Given(role, it.roles[role]) for role in ("viewer", "user", "operator", "admin"))
    return settings.OidcSettings(
        it.issuer, it.client_id, it.cli_client_id, it.name_claim, it.role_claim, given, it.session
    )


def _shows(config: Config) -> settings.Shown | None:
    tls = config.security.tls
    return ("given" if tls.certificate else "host") if tls.enabled else None


def prometheus(config: Config) -> str:
    """prometheus.yml, as JSON, which is YAML too."""
    interval = f"{max(1, round(config.monitoring.scrape_interval * 1000))}ms"
    token = f"/run/credentials/{layout.PROMETHEUS}/{layout.GATEWAY_TOKEN}"
    nodes = [
        {
            "targets": [f"{in_url(host.address)}:{layout.NODE_EXPORTER_PORT}"],
            "labels": {"host": host.name, **({"worker": host.worker.name} if host.worker else {})},
        }
        for host in hosts(config)
    ]
    tls = {
        "ca_file": str(layout.TLS / layout.CA_CERT),
        "cert_file": str(layout.TLS / layout.CERT),
        "key_file": str(layout.TLS / layout.KEY),
    }
    jobs: list[dict[str, Any]] = [
        {
            "job_name": "gateway",
            "authorization": {"credentials_file": token},
            "static_configs": [{"targets": [local(gateway_port(config))]}],
        },
        {
            "job_name": "dask-scheduler",
            "static_configs": [{"targets": [f"127.0.0.1:{config.scheduler.dashboard_port}"]}],
        },
        {"job_name": "node", "scheme": "https", "tls_config": tls, "static_configs": nodes},
        {"job_name": "prometheus", "static_configs": [{"targets": [local(config.monitoring.port)]}]},
    ]
    whole = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": "15s",  # alerts are to fire within half a minute of what they wait for
            "external_labels": {"cluster": config.name},
        },
        "rule_files": ["rules.yml"],
        **_alerting(config),
        "scrape_configs": jobs,
    }
    return json.dumps(whole, indent=2) + "\n"


def _alerting(config: Config) -> dict[str, Any]:
    alerts = config.monitoring.alerts
    targets = [{"static_configs": [{"targets": [local(alerts.port)]}]}]
    return {"alerting": {"alertmanagers": targets}} if alerts.told else {}
