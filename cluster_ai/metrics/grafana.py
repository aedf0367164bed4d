"""The same charts as a dashboard for those who have a Grafana."""

from __future__ import annotations

import json
from collections.abc import Mapping
from string import Template
from typing import Any

from cluster_ai.metrics.charts import CHARTS, Chart, Unit

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_ASKED = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
_UNITS: Mapping[Unit, str] = {
    "tokens/s": "suffix: tokens/s",
    "seconds": "s",
    "share": "percentunit",
    "count": "short",
}
_WIDTH, _HEIGHT = 12, 8  # of Grafana's 24 columns


def dashboard() -> str:
    """As Grafana imports it; it asks which Prometheus is meant."""
    panels: list[dict[str, Any]] = []
    y = 0
    for section, charts in CHARTS.items():
        panels.append({"type": "row", "title": section, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []})
        y += 1
        for number, chart in enumerate(charts):
            at = {"x": number % 2 * _WIDTH, "y": y + number // 2 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_panel(chart, at))
        y += (len(charts) + 1) // 2 * _HEIGHT
    panels.append(_alerts({"x": 0, "y": y, "w": 24, "h": _HEIGHT}))
    whole = {
        "title": "Cluster AI",
        "uid": "cluster-ai",
        "tags": ["cluster-ai"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_ASKED]},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }
    return json.dumps(whole, indent=2) + "\n"


def _panel(chart: Chart, at: Mapping[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": chart.title,
        "description": chart.says,
        "gridPos": at,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": _UNITS[chart.unit], "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"placement": "bottom"}},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": Template(line.expr).substitute(w="$__rate_interval"),
                "legendFormat": line.name.replace("{", "{{").replace("}", "}}"),
            }
            for number, line in enumerate(chart.lines)
        ],
    }


def _alerts(at: Mapping[str, int]) -> dict[str, Any]:
    expr = 'ALERTS{alertstate="firing", severity=~"critical|warning"}'
    return {
        "type": "table",
        "title": "Alerts that fire now",
        "description": "What each means and what to do is in docs/alerts.md.",
        "gridPos": at,
        "datasource": _SOURCE,
        "targets": [{"refId": "A", "datasource": _SOURCE, "expr": expr, "instant": True, "format": "table"}],
    }
