"""What runs on the head host."""

from __future__ import annotations

from cluster_ai.config.keys import Rules, integer, key, port, section

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
            "How a worker is chosen for a request: `affinity` where the conversation is in a cache still, unless "
            "elsewhere it is answered sooner; `resource_aware` by measured speed, load and memory; `least_loaded` by "
            "free slots; `round_robin` in turn. A request may name another in the header `x-cluster-policy`.",
            type="string",
            allowed=["affinity", "least_loaded", "resource_aware", "round_robin"],
            default="affinity",
        ),
        "trusted_networks": key(
            "Networks whose requests need no token.",
            type="list",
            default=[],
            schema={"form": "network", "meta": {"doc": "A network."}},
        ),
        "context": key(
            "What becomes of a prompt that is longer than its model's context: `truncate` leaves out its oldest part "
            "and says so in the header `x-cluster-context`; `refuse` answers 400.",
            type="string",
            allowed=["truncate", "refuse"],
            default="truncate",
        ),
        "limits": section(
            "What one request, one user and all of them may take. A user is whoever has a key of `cluster-ai keys`; "
            "without one, an address.",
            {
                "queue": integer(
                    "Requests that wait at most for a free slot of a model. Beyond that, whoever has the most there "
                    "gives way.",
                    0,
                    default=512,
                ),
                "max_wait": key(
                    "How long a request waits for a slot before it gets 503.", form="duration", default="2m"
                ),
                "requests_per_minute": integer("Requests of a user in a minute.", 1, absent="no limit"),
                "tokens_per_minute": integer(
                    "Tokens of a user in a minute, of prompts and answers together.", 1, absent="no limit"
                ),
                "max_concurrent": integer("Requests of a user that run or wait at once.", 1, absent="no limit"),
                "max_body": key("How large the body of a request may be.", form="size", default="64MiB"),
                "request_timeout": key(
                    "How long a request may take in all, from its arrival to the end of its answer.",
                    "no limit",
                    form="duration",
                ),
            },
        ),
    },
)

TASKS: Rules = section(
    "Work that nobody waits for (docs/tasks.md).",
    {
        "data": key(
            "Folder, the same on every worker (a network file system, say), whose CSV and Parquet files "
            "`data_processing` tasks may read. Whoever may submit tasks may read what is in it; the user "
            "cluster-ai-worker must be able to.",
            "there are no such tasks",
            form="folder",
        ),
    },
)

MONITORING: Rules = section(
    "Prometheus, on the head host.",
    {
        "port": port("Port of Prometheus, on loopback.", 9090),
        "scrape_interval": key("How often everything is measured.", form="duration", default="5s"),
        "retention": key("How long measurements are kept.", form="duration", default="15d"),
        "traces": key(
            "Where spans of requests are sent: the base URL of a receiver of OpenTelemetry's HTTP protocol, such as "
            "'http://10.0.4.2:4318'.",
            "none are made",
            form="url",
        ),
        "alerts": section(
            "Who is told when an alert fires, and when it is over: by Alertmanager, which runs on the head host where "
            "there is anybody to tell.",
            {
                "port": port("Port of Alertmanager, on loopback.", 9093),
                "webhook": key(
                    "Address that gets Alertmanager's JSON by POST. A bearer token for it: "
                    "`cluster-ai secrets set alerts_webhook_token`.",
                    "none is called",
                    form="url",
                ),
                "mail": key(
                    "Mail about alerts.",
                    "none is sent",
                    type="dict",
                    schema={
                        "to": key(
                            "Who gets it.",
                            type="list",
                            required=True,
                            minlength=1,
                            schema={"form": "mailbox", "meta": {"doc": "An address."}},
                        ),
                        "from": key("Address that it comes from.", form="mailbox", required=True),
                        "server": key(
                            "Mail server and its port, such as 'mail.cluster.ai:587'; TLS is required of it.",
                            form="endpoint",
                            required=True,
                        ),
                        "user": key(
                            "Who logs in there; the password: `cluster-ai secrets set alerts_mail_password`.",
                            "nobody logs in",
                            form="word",
                        ),
                    },
                ),
            },
        ),
    },
)

INTERFACE: Rules = section(
    "What people look at, on the head host.",
    {
        "dashboard": key("Whether the dashboard runs.", type="boolean", default=True),
        "dashboard_port": port("Port of the dashboard.", 8501),
        "open_webui": key(
            "Whether [Open WebUI](open-webui.md) runs: a chat page with accounts, made by others, under their licence. "
            "Its packages are a part of the head host's release.",
            type="boolean",
            default=False,
        ),
        "open_webui_port": port("Port of Open WebUI.", 8502),
    },
)
