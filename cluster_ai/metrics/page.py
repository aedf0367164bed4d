"""docs/metrics.md, made from the table so that the two can't differ."""

from __future__ import annotations

from cluster_ai.metrics.names import METRICS

_HEAD = """\
# Metrics

<!-- Made by `python -m cluster_ai.metrics > docs/metrics.md`; edit cluster_ai/metrics/names.py. -->

The gateway serves these at `/metrics` (bearer token, or a trusted network). Histograms show as `_bucket`, `_sum` and
`_count`.

A **task** is one inference request that the gateway took in (`kind="inference"`), or one Dask task (`kind="dask"`).
The two are kept apart because they restart with different processes; `sum by (kind) (rate(...))` is right across
restarts of either.

What isn't known isn't shown: the `worker_*` usage gauges come by Dask's heartbeats and vanish when the last one is
older than 30 s; a worker without a card has no GPU series; a model that nobody asked for yet has no hit rate.

| metric | type | labels | meaning |
|---|---|---|---|
"""


def page() -> str:
    rows = (f"| `{m.name}` | {m.kind} | {', '.join(m.labels) or '-'} | {m.help} |\n" for m in METRICS)
    return _HEAD + "".join(rows)
