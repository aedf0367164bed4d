"""What grows with what is asked: replicas of a model, Dask worker processes of a host."""

from __future__ import annotations

from cluster_ai.config.keys import Rules, integer, key, section

SCALE: Rules = key(
    "More replicas than `replicas` while there is much to do, and none in memory while there is nothing; the gateway "
    "sees to it. docs/scaling.md tells how.",
    type="dict",
    absent="`replicas`, always",
    schema={
        "max": integer("Replicas at most.", 1, required=True),
        "in_flight": integer(
            "Requests that one replica should have at once, running or waiting.", 1, absent="`engine.parallel`"
        ),
        "queue_time": key(
            "How long a request may wait for a slot; where they wait longer on average, there is one replica more.",
            form="duration",
            absent="that doesn't count",
        ),
        "cool_down": key(
            "How long less must have been wanted before there is one less.", form="duration", default="10m"
        ),
        "idle": key(
            "After so long without a request it leaves memory on all workers; the next request waits until it is back.",
            form="duration",
            absent="it stays",
        ),
        "ahead": key(
            "How far to look ahead by what Prometheus has of the days before; `0s`: not at all.",
            form="wait",
            default="30m",
        ),
        "schedule": key(
            "Times of the week with more.",
            type="list",
            default=[],
            schema={
                "type": "dict",
                "meta": {"doc": "A time of the week, by the head host's clock."},
                "schema": {
                    "days": key("Days on which it begins.", form="days", default="mon-sun"),
                    "from": key("When it begins.", form="clock", required=True),
                    "to": key("When it ends; where that isn't later, on the next day.", form="clock", required=True),
                    "replicas": integer("Replicas at least.", 1, required=True),
                },
            },
        ),
        "dry_run": key("Only tell what would be done.", type="boolean", default=False),
    },
)

SCALING: Rules = section(
    "What else grows with what is to be done (docs/scaling.md).",
    {
        "processes": key(
            "More Dask worker processes on each host while tasks wait, within its `cpu` and `memory`, by Dask's "
            "Adaptive. Each of `max` processes has an equal share of both, so a task can have no more than a share.",
            "one on each host, which has all of it",
            type="dict",
            schema={
                "max": integer(
                    "Processes of a host at most; fewer where it hasn't a core and 512 MiB for each.",
                    2,
                    10,
                    required=True,
                ),
                "min": integer("Processes of a host at least.", 1, 10, default=1),
                "cool_down": key(
                    "How long fewer must have had enough to do before there are fewer.", form="duration", default="1m"
                ),
                "dry_run": key("Only tell what would be done.", type="boolean", default=False),
            },
        ),
    },
)
