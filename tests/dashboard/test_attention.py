from __future__ import annotations

from dataclasses import replace

import pytest

from cluster_ai.metrics.alerts import ALERTS
from dashboard.attention import _TOLD, notices, well
from dashboard.hosts import CHECKS, Host
from dashboard.prometheus import Firing
from dashboard.queries import Overview
from dashboard.served import Cordon, Served, ServedModel, WorkerState

NOW = 1_000_000.0
WELL = Overview(
    newest=NOW - 5,
    workers_up=2,
    workers_down=(),
    targets_down=(),
    requests=1.0,
    tokens=100.0,
    p50=0.5,
    p95=1.5,
    finished=1000.0,
    failed=0.0,
    failovers=0.0,
    hosts=(Host("head", 0.2, 10.0, 100.0, 50.0, 100.0),),
    energy=None,
    firing=(),
    rollout="done",
    charts={},
)
MODEL = ServedModel("llama2:13b", None, None, None, None, 2, ("a", "b"), ("a",))
SERVED = Served((MODEL,), (WorkerState("a", "active", None, ()), WorkerState("b", "active", None, ())), None)


def host(
    name: str, *, drift: dict[str, int] | None = None, checked: float | None = None, awaited: bool = False
) -> Host:
    return Host(name, None, None, None, None, None, drift or {}, checked, awaited)


def said(overview: Overview = WELL, served: Served | None = SERVED) -> list[tuple[str, str]]:
    found = notices(overview, served, now=NOW)
    assert all(n.remedy for n in found)
    return [(n.level, n.what) for n in found]


def test_a_cluster_that_is_well_needs_nothing() -> None:
    assert said() == []
    assert said(served=None) == []


def test_a_lost_worker_is_named_with_the_reason_that_the_gateway_knows() -> None:
    served = replace(SERVED, workers=(WorkerState("b", "down", "connection refused", ()),))
    lost = replace(WELL, workers_up=1, workers_down=("b",))
    assert said(lost, served) == [("error", "Worker **b** (connection refused) does not answer.")]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("paused", [("warning", "A rollout waits for a person.")]),
        ("interrupted", [("error", "A rollout was interrupted: hosts may run different releases.")]),
        ("done", []),
    ],
)
def test_a_rollout_that_needs_a_person_is_told(state: str, expected: list[tuple[str, str]]) -> None:
    assert said(replace(WELL, rollout=state)) == expected


def test_a_host_that_sleeps_on_standby_is_well_and_one_that_is_drained_for_it_too() -> None:
    asleep = replace(SERVED, workers=(*SERVED.workers, WorkerState("night", "asleep", "on standby", ())))
    assert said(served=asleep) == []
    assert "2 workers answer and 1 on standby sleeps" in well(WELL, asleep)
    drained = WorkerState("night", "draining", None, (), cordon=Cordon("standby", "", 0, 0))
    assert said(served=replace(SERVED, workers=(drained,))) == []
    by_somebody = replace(drained, cordon=Cordon("dust", "", 0, 0))
    assert [what for _, what in said(served=replace(SERVED, workers=(by_somebody,)))] == [
        "Worker **night** gets no new requests: drained."
    ]


def test_many_lost_workers_are_named_up_to_five() -> None:
    lost = replace(WELL, workers_down=tuple(f"w{n}" for n in range(8)))
    assert said(lost) == [("error", "Workers **w0**, **w1**, **w2**, **w3**, **w4** and 3 more do not answer.")]


def test_a_model_on_no_worker_is_said_but_not_when_no_worker_is_left() -> None:
    served = replace(SERVED, models=(replace(MODEL, present=()),))
    assert said(served=served) == [("error", "Model **llama2:13b** is on no worker that answers.")]
    dead = replace(WELL, workers_up=0, workers_down=("a", "b"))
    assert said(dead, served) == [("error", "No worker answers: **a** and **b**.")]


def test_failed_requests_are_a_warning_and_above_five_percent_an_error() -> None:
    assert said(replace(WELL, failed=10.0)) == [("warning", "1.0 % of the requests failed (10 of 1\u202f000).")]
    assert said(replace(WELL, failed=100.0))[0][0] == "error"


def test_full_hosts_are_named() -> None:
    hosts = (
        Host("h1", None, 95.0, 100.0, 50.0, 100.0),
        Host("h2", None, None, None, 5.0, 100.0),
        host("h3"),
    )
    assert said(replace(WELL, hosts=hosts)) == [
        ("warning", "Host **h1** has less than 10 % of memory left."),
        ("warning", "Host **h2** has less than 10 % of disk left."),
    ]


def test_old_values_are_an_error_and_come_before_warnings() -> None:
    assert [level for level, _ in said(replace(WELL, newest=NOW - 300, failovers=2.0))] == ["error", "warning"]


def test_a_target_that_cannot_be_read_is_named_and_the_gateway_only_once() -> None:
    away = replace(WELL, targets_down=("gateway on head", "node on h2"))
    assert said(away) == [("warning", "Prometheus can't read **node on h2**.")]


def test_draining_workers_and_an_absent_scheduler_are_said() -> None:
    served = replace(SERVED, workers=(WorkerState("a", "draining", "drained", ()),), scheduler="connection refused")
    assert [what for _, what in said(served=served)] == [
        "Worker **a** gets no new requests: drained.",
        "Dask's scheduler is away: connection refused.",
    ]


def test_drift_is_told_by_host_and_kind_with_its_age_and_the_way_to_repair_it() -> None:
    hosts = (
        host("h1", drift={"files": 2, "units": 1}, checked=NOW - 600),
        host("h2", drift={}, checked=NOW - 600),
        host("h3", drift={"ports": 1}, checked=NOW - 1200),
    )
    (notice,) = notices(replace(WELL, hosts=hosts), SERVED, now=NOW)
    assert notice.level == "warning"
    assert notice.what == (
        "Hosts **h1** (2 files, 1 unit) and **h3** (1 port) differ from what was released there, as of 20 min ago."
    )
    assert "cluster-ai apply" in notice.remedy


def test_a_check_too_long_ago_is_told_apart_from_one_that_never_was_and_from_a_host_that_is_new() -> None:
    hosts = (
        host("late", drift={}, checked=NOW - 2 * CHECKS),
        host("never", awaited=True),
        host("new"),
        host("fine", drift={}, checked=NOW - CHECKS / 2, awaited=True),
    )
    assert said(replace(WELL, hosts=hosts)) == [
        ("warning", "Host **late** (6 h ago) looked for drift too long ago."),
        ("warning", "Host **never** has never looked for drift."),
    ]
    assert [it.drift_told(NOW) for it in hosts] == [
        "not known, checked 6 h ago",
        "not checked yet",
        "not checked yet",
        None,
    ]


def test_an_alert_that_no_rule_here_tells_of_is_told_once_for_all_that_it_fires_for() -> None:
    slow = [Firing("ModelSlow", False, f"m on w{n} is slower than it was", "docs/alerts.md#modelslow") for n in (1, 2)]
    known = Firing("WorkerDown", False, "Worker w3 does not answer", "docs/alerts.md#workerdown")
    overview = replace(WELL, firing=(*slow, known))
    assert said(overview) == [("warning", "m on w1 is slower than it was and m on w2 is slower than it was.")]
    (notice,) = notices(overview, SERVED, now=NOW)
    assert "docs/alerts.md#modelslow" in notice.remedy


def test_every_alert_that_is_left_to_a_rule_here_exists() -> None:
    assert {alert.name for alert in ALERTS} >= _TOLD
