"""What is drawn of the cluster over time: one table, of which `cluster-ai report` and docs/grafana are made.

In a query, $w stands for the time that one point looks back over: what lies between two points of a chart, or
Grafana's $__rate_interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Unit = Literal["tokens/s", "seconds", "share", "count"]


@dataclass(frozen=True, slots=True)
class Line:
    """name: of each series that the query answers with; {label} stands for a label's value."""

    expr: str
    name: str


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    unit: Unit
    says: str  # what is to be seen in it
    lines: tuple[Line, ...]
    always: bool = True  # false: of what many clusters don't have, such as cards
    falls: bool = False  # what one looks for in it is a line that falls, not one that is high


def _first_token(quantile: float, name: str) -> Line:
    rate = "sum by (le) (rate(gateway_time_to_first_token_seconds_bucket[$w]))"
    return Line(f"histogram_quantile({quantile}, {rate})", name)


SPEED, FAILURES, HOSTS = "Speed", "Failures", "Hosts"
CHARTS: Mapping[str, tuple[Chart, ...]] = {
    SPEED: (
        Chart(
            "Tokens per second of an answer",
            "tokens/s",
            "How fast each model writes on each worker, by the engine's clock. A line that falls and stays down is a "
            "model that became slow.",
            (Line("avg_over_time(worker_model:tokens_per_second:rate5m[$w])", "{model} on {worker}"),),
            falls=True,
        ),
        Chart(
            "Tokens per second, all answers together",
            "tokens/s",
            "What the cluster gives in all.",
            (Line("sum by (model) (rate(model_tokens_generated_total[$w]))", "{model}"),),
        ),
        Chart(
            "Time to the first token",
            "seconds",
            "How long people wait until a streamed answer begins: half of them at most the lowest line.",
            (_first_token(0.5, "half"), _first_token(0.95, "95 %"), _first_token(0.99, "99 %")),
        ),
        Chart(
            "Wait for a free slot",
            "seconds",
            "What nine in ten requests for a model waited at most. Long waits ask for more replicas.",
            (Line("max_over_time(model:queue_seconds:p90_5m[$w])", "{model}"),),
        ),
    ),
    FAILURES: (
        Chart(
            "Requests that failed",
            "share",
            "Of all requests, those that failed through the cluster's fault.",
            (
                Line(
                    'sum(increase(cluster_failed_tasks_total{kind="inference"}[$w]))'
                    ' / (sum(increase(cluster_total_tasks_total{kind="inference"}[$w])) > 0)',
                    "failed",
                ),
            ),
        ),
        Chart(
            "Turned away, and rescued",
            "count",
            "Requests that were not let in, by reason; and those that another worker took over.",
            (
                Line("sum by (reason) (increase(gateway_refused_total[$w]))", "refused: {reason}"),
                Line("sum by (worker) (increase(worker_failovers_total[$w]))", "taken over from {worker}"),
                Line("sum by (worker) (increase(worker_stalls_total[$w]))", "stalled at {worker}"),
            ),
        ),
    ),
    HOSTS: (
        Chart(
            "Workers that answer",
            "share",
            "Of the time, how much each worker's engine answered the gateway.",
            (Line("avg by (worker) (avg_over_time(worker_up[$w]))", "{worker}"),),
            falls=True,
        ),
        Chart(
            "Requests and tasks at once",
            "count",
            "What each worker had to do, on average.",
            (Line("sum by (worker) (avg_over_time(worker_active_tasks[$w]))", "{worker}"),),
        ),
        Chart(
            "Processor",
            "share",
            "Of each worker's host.",
            (Line("max by (worker) (avg_over_time(worker_cpu_usage[$w]))", "{worker}"),),
        ),
        Chart(
            "Memory",
            "share",
            "Of each worker's host.",
            (
                Line(
                    "max by (worker) (avg_over_time(worker_memory_usage[$w]))"
                    " / max by (worker) (avg_over_time(worker_memory_capacity[$w]))",
                    "{worker}",
                ),
            ),
        ),
        Chart(
            "Cards: busy",
            "share",
            "Of the time, how much each card had work.",
            (Line("max by (worker, gpu) (avg_over_time(worker_gpu_usage[$w]))", "{worker} card {gpu}"),),
            always=False,
        ),
        Chart(
            "Cards: memory",
            "share",
            "A full card sends the next model to the processor.",
            (
                Line(
                    "max by (worker, gpu) (avg_over_time(worker_gpu_memory[$w]))"
                    " / max by (worker, gpu) (avg_over_time(worker_gpu_memory_capacity[$w]))",
                    "{worker} card {gpu}",
                ),
            ),
            always=False,
        ),
        Chart(
            "Disk",
            "share",
            "Of each host's root file system, what is used.",
            (
                Line(
                    '1 - min by (host) (node_filesystem_avail_bytes{mountpoint="/"}'
                    ' / node_filesystem_size_bytes{mountpoint="/"})',
                    "{host}",
                ),
            ),
            always=False,
        ),
    ),
}
