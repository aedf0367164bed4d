"""docs/metrics.md, made from the table so that the two can't differ."""

from __future__ import annotations

from collections.abc import Iterable

from cluster_ai.metrics.names import HOST_METRICS, METRICS, Metric

_HEAD = """\
# Metrics

<!-- Made by `python -m cluster_ai.metrics names > docs/metrics.md`; edit cluster_ai/metrics/names.py. -->

The gateway serves these at `/metrics` (bearer token, or a trusted network). Histograms show as `_bucket`, `_sum` and
`_count`.

A **task** is one inference request that the gateway took in (`kind="inference"`), or one Dask task (`kind="dask"`).
The two are kept apart because they restart with different processes; `sum by (kind) (rate(...))` is right across
restarts of either.

What isn't known isn't shown: the `worker_*` usage gauges come by Dask's heartbeats and vanish when the last one is
older than 30 s; a worker without a card has no GPU series; a model that nobody asked for yet has no hit rate.

"""
_TABLE = """\
| metric | type | labels | meaning |
|---|---|---|---|
"""
_HOSTS = """
## Of hosts

Every host checks itself once an hour (`cluster-ai-verify.timer`) and when `cluster-ai verify` asks for it; its
node_exporter serves the result. The head host's tells of the last rollout, too. Prometheus adds the labels `host` and,
where it is one, `worker`.

"""


def page() -> str:
    return _HEAD + _table(METRICS) + _HOSTS + _table(HOST_METRICS)


def _table(metrics: Iterable[Metric]) -> str:
    rows = (f"| `{m.name}` | {m.kind} | {', '.join(m.labels) or '-'} | {m.help} |\n" for m in metrics)
    return _TABLE + "".join(rows)
