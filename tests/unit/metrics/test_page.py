"""docs/metrics.md is the table."""

from __future__ import annotations

from pathlib import Path

from cluster_ai.metrics.names import METRICS
from cluster_ai.metrics.page import page


def test_the_page_in_docs_is_up_to_date() -> None:
    assert (Path(__file__).parents[3] / "docs" / "metrics.md").read_text() == page()


def test_names_are_unique_and_end_as_prometheus_wants() -> None:
    assert len({m.name for m in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.endswith("_total") is (metric.kind == "counter")
        assert metric.name.endswith("_seconds") is (metric.kind == "histogram")
        assert bool(metric.buckets) is (metric.kind == "histogram")
