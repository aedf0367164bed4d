"""Prometheus' text format, for metrics that are left in a file for a host's node_exporter."""

from __future__ import annotations

from collections.abc import Mapping

from cluster_ai.metrics.names import Metric


def exposition(gauges: Mapping[Metric, Mapping[str, float]]) -> str:
    """Metric -> labels as they are written ('kind="files"', or "" for none) -> value."""
    lines = []
    for metric, samples in gauges.items():
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        lines += [f"{metric.name}{{{labels}}} {value:.17g}" for labels, value in samples.items()]
    return "\n".join(lines) + "\n"
