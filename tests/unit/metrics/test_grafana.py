"""docs/grafana is made of the table of charts; Prometheus' own tool reads its queries."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.metrics.charts import CHARTS
from cluster_ai.metrics.grafana import dashboard
from tests.unit.metrics.test_rules import ROOT, promtool, run, unknown

TARGETS: list[dict[str, Any]] = [it for panel in json.loads(dashboard())["panels"] for it in panel.get("targets", [])]


def test_the_file_in_docs_is_up_to_date() -> None:
    assert (ROOT / "docs" / "grafana" / "cluster-ai.json").read_text() == dashboard()


@promtool
def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"q:{n}", "expr": it["expr"].replace("$__rate_interval", "5m")} for n, it in enumerate(TARGETS)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run("check", "rules", tmp_path / "rules.yml")


@pytest.mark.parametrize("target", TARGETS, ids=lambda it: it["expr"][:60])
def test_every_query_asks_for_series_that_there_are(target: dict[str, Any]) -> None:
    assert not unknown(target["expr"])


def test_a_legend_names_labels_that_its_query_leaves() -> None:
    for chart in (it for section in CHARTS.values() for it in section):
        for line in chart.lines:
            for label in re.findall(r"{(\w+)}", line.name):
                assert re.search(rf"by \([^)]*\b{label}\b|^\w+\({label}|{label}\w*:", line.expr), line


def test_panels_lie_beside_each_other() -> None:
    places = [panel["gridPos"] for panel in json.loads(dashboard())["panels"]]
    cells = [
        (x, y) for it in places for x in range(it["x"], it["x"] + it["w"]) for y in range(it["y"], it["y"] + it["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
