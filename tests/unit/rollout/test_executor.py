from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from cluster_ai.errors import ExitCode, RolloutError
from cluster_ai.placement.place import Assignment, Placement
from cluster_ai.provision import host_layer
from cluster_ai.rollout.executor import Executor, Report, served
from cluster_ai.rollout.journal import Intent, Journal
from cluster_ai.rollout.lease import Lease
from cluster_ai.rollout.plan import HostPlan, Plan
from cluster_ai.rollout.records import Record
from cluster_ai.rollout.rolling import Halt
from cluster_ai.rollout.scope import Scope
from cluster_ai.rollout.survey import Survey
from tests.unit.rollout.test_passage import CONFIG


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


class Held:
    """A lease that nobody else wants."""

    def doing(self, what: str) -> None:
        pass


def test_a_playbook_that_ansible_does_not_even_begin_is_a_failed_step_of_the_rollout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/site.yml").write_text("- hosts: all\n  tasks:\n    - no_such_module: {}\n")
    for name in ("roles", "ansible.cfg"):
        (tmp_path / name).symlink_to(host_layer.ROOT / name)
    monkeypatch.setattr(host_layer, "ROOT", tmp_path)
    record = Record(Journal(tmp_path / "rollouts.sqlite"), cast(Lease, Held()))
    record.begin("cluster-ai apply", Intent("test", "rolling", "", {}, ()))
    host = HostPlan("a", "10.0.0.2", ("worker",), None, "b" * 64, host_layer="never converged")
    found = Survey(Plan("test", (host,), (), ()), {}, {}, {"a": "stamp"})
    run = Executor(Scope(CONFIG), Placement(()), record, lambda title, names: None, lambda event: None)

    report = run.run(found)

    (error,) = report.failed.values()
    assert error.exit_code == ExitCode.ROLLOUT
    assert error.where == "playbooks/site.yml"
    assert "couldn't resolve module/action 'no_such_module'" in error.what
    assert "site.yml:3:7" in error.what
    assert report.untouched == ["a"]
    kept = record.journal.get(record.id)
    assert (kept.state, [f"{it.step} {it.host} {it.status}" for it in kept.steps]) == (
        "failed",
        ["host layer a start", "host layer a failed"],
    )
