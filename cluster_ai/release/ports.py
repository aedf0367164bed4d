"""Which ports a host's units listen on: what `doctor` wants to be free, and what the host's own check looks at."""

from __future__ import annotations

from cluster_ai import layout
from cluster_ai.config.model import Config, Host


def ports(config: Config, host: Host) -> dict[int, str]:
    """Port -> the unit of ours whose process listens there, less the one of a range that a worker's nanny takes."""
    needed: dict[int, str] = {}
    if "head" in host.roles:
        needed |= {
            config.gateway.port: layout.GATEWAY_SOCKET,
            config.scheduler.port: layout.SCHEDULER,
            layout.ISSUER_PORT: layout.ISSUER,
            config.scheduler.dashboard_port: layout.SCHEDULER,
            config.monitoring.port: layout.PROMETHEUS,
        }
        if config.security.tls.enabled:
            needed[layout.GATEWAY_LOCAL_PORT] = layout.GATEWAY_SOCKET
        if config.monitoring.alerts.told:
            needed[config.monitoring.alerts.port] = layout.ALERTMANAGER
        if config.interface.dashboard:
            needed[config.interface.dashboard_port] = layout.DASHBOARD
        if config.interface.open_webui:
            needed[config.interface.open_webui_port] = layout.OPEN_WEBUI
    if host.worker is not None:
        needed |= {
            layout.ENGINE_PORT: layout.ENGINE,
            layout.FRONT_PORT: layout.FRONT,
            layout.DASK_WORKER_PORTS[0]: layout.WORKER,
        }
    return needed
