"""What runs on the head host."""

from __future__ import annotations

from cluster_ai.config.keys import Rules, key, port, section

SCHEDULER: Rules = key(
    "The head host: Dask scheduler, gateway, Prometheus and dashboard run there.",
    type="dict",
    required=True,
    schema={
        "host": key(
            "Name or address that SSH, workers and clients reach it by. A worker with the same `host` shares it.",
            form="host",
            required=True,
        ),
        "port": port("Dask scheduler.", 8786),
        "dashboard_port": port("Dask's own dashboard, on loopback.", 8787),
    },
)

GATEWAY: Rules = section(
    "The one address that clients talk to, on the head host.",
    {
        "port": port("Port of the gateway.", 11435),
        "policy": key(
            "How a worker is chosen for a request.",
            type="string",
            allowed=["least_loaded", "round_robin"],
            default="least_loaded",
        ),
        "trusted_networks": key(
            "Networks whose requests need no token.",
            type="list",
            default=[],
            schema={"form": "network", "meta": {"doc": "A network."}},
        ),
    },
)

MONITORING: Rules = section(
    "Prometheus, on the head host.",
    {
        "port": port("Port of Prometheus, on loopback.", 9090),
        "scrape_interval": key("How often everything is measured.", form="duration", default="5s"),
        "retention": key("How long measurements are kept.", form="duration", default="15d"),
    },
)

INTERFACE: Rules = section(
    "What people look at, on the head host.",
    {
        "dashboard": key("Whether the dashboard runs.", type="boolean", default=True),
        "dashboard_port": port("Port of the dashboard.", 8501),
    },
)
