"""What is drawn, where names or dates are such that they could be taken for another's."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

from bokeh.models import ColumnDataSource

from cluster_ai.report import figures
from cluster_ai.report.figures import Bars
from cluster_ai.report.measurements import Fired
from cluster_ai.report.measurements import read as measured
from cluster_ai.rollout.prometheus import Prometheus


def series(moments: list[float], **labels: str) -> dict[str, Any]:
    return {"metric": {"severity": "warning", **labels}, "values": [[at, "1"] for at in moments]}


def read(*found: dict[str, Any]) -> tuple[Fired, ...]:
    """Of ten minutes, measured every 15 s."""

    def answer(path: str) -> tuple[int, str]:
        up = [{"metric": {}, "values": [[0, "1"]]}]
        result = found if "ALERTS" in path else up if "count%28up%29" in path else []
        return 200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})

    there = measured(Prometheus(answer), (0.0, 600.0))
    assert there
    return there.fired


def test_alerts_that_are_called_the_same_are_one_with_the_times_of_both() -> None:
    found = read(
        series([60, 75, 120], alertname="TargetDown", job="gateway", instance="a"),
        series([75, 90], alertname="TargetDown", job="gateway", instance="b"),
    )
    assert found == (Fired("TargetDown", "warning", "gateway", ((45, 90), (105, 120))),)


def test_certificates_of_one_host_are_told_apart() -> None:
    kinds = ("host", "people")
    found = read(*(series([60], alertname="CertificateEnds", host="head", certificate=it) for it in kinds))
    assert [it.of for it in found] == ["head, host", "head, people"]


def test_an_alert_of_two_severities_has_one_row() -> None:
    alerts = [Fired("DiskFull", severity, "h1", ((0, 60),)) for severity in ("warning", "critical")]
    assert figures.fired(alerts, (0, 600)).y_range.factors == ["DiskFull h1"]


def test_days_of_more_than_a_year_are_told_apart() -> None:
    days = tuple((date(2026, 1, 1) + timedelta(number)).isoformat() for number in range(400))
    factors = figures.stacked(Bars(days, {"llama3:8b": (1.0,) * 400}), "tokens").x_range.factors
    assert len(set(factors)) == 400


def test_a_user_who_is_called_day_is_a_part_as_others_are() -> None:
    plot = figures.stacked(Bars(("2026-01-01", "2026-01-02"), {"day": (1.0, 2.0), "anna": (3.0, 4.0)}), "tokens")
    (source,) = {id(it): it for it in plot.select({"type": ColumnDataSource})}.values()
    assert source.data["day"] == [1.0, 2.0]
    assert ["01 Jan", "02 Jan"] in source.data.values()
