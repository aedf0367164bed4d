"""Standby hosts that don't answer are no error; whatever else is wrong with them is."""

from __future__ import annotations

import pytest

from cluster_ai.cli.render import summary
from cluster_ai.config import hosts, load_text
from cluster_ai.errors import HostAwayError, HostError
from cluster_ai.provision.refusals import Reply, refused
from cluster_ai.rollout.plan import HostPlan, plan_cluster
from cluster_ai.rollout.survey import sleeping
from tests.unit.config.test_load import SEED

ON_STANDBY = SEED.replace("replicas: 2", "replicas: 1").replace(
    "'64GB'}", "'64GB'}\n      standby: {mac: '52:54:00:12:34:56'}"
)
CONFIG = load_text(ON_STANDBY, "cluster.yaml")


def answer(host: str, text: str) -> HostError:
    found = refused(Reply(host, 255, b"", text))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("said", "sleeps"),
    [
        ("ssh: connect to host cpu-worker-01 port 22: No route to host", True),
        ("ssh: connect to host cpu-worker-01 port 22: Connection timed out", True),
        ("ssh: connect to host cpu-worker-01 port 22: Connection refused", False),
        ("admin@cpu-worker-01: Permission denied (publickey).", False),
    ],
)
def test_only_one_that_does_not_answer_sleeps(said: str, sleeps: bool) -> None:
    error = answer("cpu-worker-01", said)
    assert sleeping(hosts(CONFIG), {"cpu-worker-01": error}) == (("cpu-worker-01",) if sleeps else ())


def test_a_worker_that_is_to_be_awake_never_sleeps() -> None:
    assert sleeping(hosts(CONFIG), {"gpu-worker-01": HostAwayError("doesn't answer", where="gpu-worker-01")}) == ()


def test_a_plan_tells_who_is_left_as_it_is() -> None:
    head = HostPlan("head", "head", ("head",), "a" * 64, "a" * 64)
    plan = plan_cluster("c", [head], [], head="head", groups=(), placed={}, asleep=("cpu-worker-01",))
    assert not plan.errors
    assert "cpu-worker-01 on standby, left as is: apply again while awake" in summary(plan)
