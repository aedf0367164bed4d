from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dashboard.rollouts import Brief, Rollout, Step, Verdict, Wave

BRIEF = Brief("20261124-093000-a1b2", "cluster-ai apply", "anna", "canary", "running", "", 0.0, None, "c" * 64)
CHECK = {"name": "speed", "worker": "w1", "canary": 10.0, "baseline": 50.0, "limit": 0.2, "result": "fail"}


def rollout(*steps: tuple[str, str, str], state: str = "running", detail: str = "") -> Rollout:
    brief = replace(BRIEF, state=state)
    waves = (Wave(("w1",), "canary", 0.0, 60.0), Wave(("w2",), "rolling", 0.0, 0.0))
    return Rollout(brief, {}, waves, tuple(Step(float(n), *it, detail) for n, it in enumerate(steps)))


@pytest.mark.parametrize(
    ("steps", "standing"),
    [
        ([], "waits"),
        ([("push", "w1", "changed")], "waits"),
        ([("push", "w1", "changed"), ("switch", "w1", "start")], "goes on"),
        ([("switch", "w1", "start"), ("switch", "w1", "changed")], "done"),
        ([("switch", "w1", "start"), ("switch", "w1", "failed")], "failed"),
        ([("switch", "w1", "changed"), ("return", "w1", "changed")], "returned"),
        ([("switch", "w2", "changed")], "waits"),
    ],
)
def test_how_far_a_host_is_comes_from_its_own_steps(steps: list[tuple[str, str, str]], standing: str) -> None:
    assert rollout(*steps).standing("w1") == standing


def test_a_rollout_that_died_does_not_go_on() -> None:
    assert rollout(("switch", "w1", "start"), state="interrupted").standing("w1") == "waits"


def verdicts(detail: str | Mapping[str, Any]) -> list[Verdict]:
    text = detail if isinstance(detail, str) else json.dumps(detail)
    return rollout(("analysis", "", "fail"), detail=text).verdicts()


def test_a_verdict_is_read_with_its_checks() -> None:
    (found,) = verdicts({"hosts": ["w1"], "result": "fail", "checks": [{**CHECK, "sentence": "slow"}]})
    assert (found.result, found.hosts, found.checks[0].sentence) == ("fail", ("w1",), "slow")


@pytest.mark.parametrize("detail", ["", '{"hosts": ["w1"], "resu', "[]", {"hosts": ["w1"]}, {"checks": 3}])
def test_a_verdict_that_was_cut_off_is_left_out(detail: str | Mapping[str, Any]) -> None:
    assert verdicts(detail) == []
