"""A replayed day: a forecast has replicas ready before the peak, which load alone hasn't."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench_scaling import Outcome, Site, compare, made_up, recorded
from cluster_ai.scaling.forecast import DAY


@pytest.fixture(scope="module")
def day() -> dict[str, Outcome]:
    trace, times, values = made_up()
    return compare(trace, times, values, times[0] + 17 * DAY, Site())


def test_with_a_forecast_replicas_come_up_before_the_peak(day: dict[str, Outcome]) -> None:
    by_load, foreseen = day["by load"], day["by load and forecast"]
    assert foreseen.changes[0][0] < by_load.changes[0][0] - 600
    assert "forecast" in foreseen.changes[0][2]
    assert foreseen.late < by_load.late
    assert foreseen.waited < by_load.waited


def test_scaling_waits_hardly_and_costs_less_than_having_all_the_time_what_the_peak_needs(
    day: dict[str, Outcome],
) -> None:
    assert day["by load and forecast"].replica_hours < 0.6 * day["6 replicas"].replica_hours
    assert day["by load and forecast"].mean_wait < 1
    assert day["1 replica"].mean_wait > 100


def test_a_recorded_trace_is_read_as_prometheus_writes_it(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("100,1\n160,2.5\n220,0\n")
    trace, times, values = recorded(tmp_path / "trace.csv")
    assert (times, values) == ([100.0, 160.0, 220.0], [1.0, 2.5, 0.0])
    assert [trace(at) for at in (90, 100, 159, 160, 1000)] == [1.0, 1.0, 1.0, 2.5, 0.0]
