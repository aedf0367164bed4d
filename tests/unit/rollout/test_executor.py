from __future__ import annotations

import pytest

from cluster_ai.errors import RolloutError
from cluster_ai.placement.place import Assignment, Placement
from cluster_ai.rollout.executor import Report, served
from cluster_ai.rollout.rolling import Halt


@pytest.mark.parametrize(
    "report",
    [
        Report(failed={"h1": RolloutError("no", where="h1")}),
        Report(models={"m": "the gateway answers 503"}),
        Report(halt=Halt("pause", "too few requests")),
    ],
)
def test_a_report_with_a_failure_a_silent_model_or_a_halt_is_not_well(report: Report) -> None:
    assert not report.ok
    assert Report(done=["h1"]).ok


def test_models_must_answer_that_some_worker_which_is_not_down_has() -> None:
    placement = Placement(
        (Assignment("a", "w1", "cpu", 1), Assignment("a", "w2", "cpu", 1), Assignment("b", "w1", "cpu", 1))
    )
    assert served(placement, {"w1"}) == ["a"]
    assert served(placement, set()) == ["a", "b"]
