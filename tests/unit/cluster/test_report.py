"""What heartbeats carry, and what is made of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.cluster.membership import Member, parse_members
from cluster_ai.cluster.report import METRIC, Gpu, Loaded, Report, dump, parse
from cluster_ai.cluster.scheduler_plugin import TaskCounter

REPORT = Report("w1", 1.0, 0.5, 4, 10, 20, 30, (Gpu(0, "card", 1, 2, None),), "0.17.4", "", (Loaded("m", 3, 0),))


def identity(*workers: dict[str, Any]) -> dict[str, Any]:
    return {"workers": {f"tls://h:{i}": w for i, w in enumerate(workers)}}


def worker(name: str, executing: int, report: Report | None) -> dict[str, Any]:
    metrics: dict[str, Any] = {"task_counts": {"executing": executing}}
    return {"name": name, "status": "running", "metrics": metrics | ({METRIC: dump(report)} if report else {})}


def test_a_report_comes_back_as_it_went() -> None:
    assert parse(dump(REPORT)) == REPORT


def test_another_versions_worker_is_understood_while_a_rollout_is_under_way() -> None:
    assert parse({**dump(REPORT), "more": 1}) == REPORT
    older = dump(REPORT)
    for name in ("cpus", "memory_limit", "disk_total", "networks", "release"):
        del older[name]
    assert parse(older) == REPORT
    (card,) = dump(REPORT)["gpus"]
    assert parse({**dump(REPORT), "gpus": [{**card, "fans": 3}]}) == REPORT


@pytest.mark.parametrize("value", [None, 3, {}, {**dump(REPORT), "gpus": None}])
def test_what_is_no_report_is_none(value: Any) -> None:
    assert parse(value) is None


def test_processes_of_one_host_are_one_member() -> None:
    old = Report("w1", 0.5, 0.1, 4, 10, 20, 30, (), "", "", ())
    leaving = {**worker("w1#2", 1, old), "status": "closing_gracefully"}
    for order in ((worker("w1", 2, REPORT), leaving), (leaving, worker("w1", 2, REPORT))):
        at = f"tls://h:{order.index(leaving) ^ 1}"
        assert parse_members(identity(*order)) == {"w1": Member("w1", at, "running", 3, REPORT, processes=2)}


def test_a_worker_without_our_plugin_is_known_by_its_name() -> None:
    assert parse_members(identity(worker("other", 1, None)))["other"].report is None


@given(st.none() | st.dictionaries(st.text(), st.integers()) | st.integers())
def test_an_identity_without_workers_has_no_members(value: Any) -> None:
    assert parse_members(value) == {}


def test_tasks_are_counted_when_they_end() -> None:
    counter = TaskCounter()
    for start, finish in (
        ("waiting", "processing"),
        ("processing", "memory"),
        ("processing", "waiting"),  # a retry
        ("processing", "erred"),
        ("waiting", "erred"),
        ("released", "memory"),  # scattered data is no task
        ("erred", "released"),
    ):
        counter.transition("key", start, finish)
    assert counter.counts() == {"total": 3, "failed": 2}
