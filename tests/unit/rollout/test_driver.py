from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from cluster_ai.config.load import load_text
from cluster_ai.errors import ClusterAIError, HostError, RolloutError, UnavailableError
from cluster_ai.placement.place import Placement
from cluster_ai.provision import ansible
from cluster_ai.provision.ansible import AnsibleResult
from cluster_ai.rollout import credentials, driver
from cluster_ai.rollout.executor import Executor, Report
from cluster_ai.rollout.journal import Intent, Journal
from cluster_ai.rollout.lease import Lease
from cluster_ai.rollout.plan import Plan
from cluster_ai.rollout.records import Record
from cluster_ai.rollout.scope import Scope
from cluster_ai.rollout.survey import Survey
from cluster_ai.rollout.traffic import POLL

CONFIG = load_text(
    """\
version: '1.0'
cluster:
  name: 'test'
  scheduler: {host: '10.0.0.1'}
  workers:
    - {name: 'a', host: '10.0.0.1', resources: {cpu: 8, memory: '32GB'}}
    - {name: 'b', host: '10.0.0.2', resources: {cpu: 8, memory: '32GB'}}
    - {name: 'c', host: '10.0.0.3', resources: {cpu: 8, memory: '32GB'}}
""",
    Path("/nowhere/cluster.yaml"),
)


class FakeGateway:
    """Each second one request of each drained worker ends. down: so many questions find no gateway."""

    def __init__(self, **in_flight: int) -> None:
        self.workers: dict[str, dict[str, Any]] = {
            name: {"name": name, "state": "active", "in_flight": n, "cordon": None} for name, n in in_flight.items()
        }
        self.now, self.status, self.down, self.back = 0.0, 200, 0, True
        self.log: list[str] = []

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout: float = 10
    ) -> tuple[int, Any]:
        if self.down:
            self.down -= 1
            raise UnavailableError("no", where="gateway")
        if method == "GET":
            return self.status, {"workers": list(self.workers.values())}
        name, what = path.split("/")[-2:]
        worker = self.workers[name]
        self.log.append(f"{what} {name}")
        if what == "drain":
            assert body
            worker |= {"state": "draining", "cordon": {"reason": body["reason"], "tasks": 0, "results": 0}}
        elif self.back:
            worker |= {"state": "active", "cordon": None}
        return 200, worker

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for worker in self.workers.values():
            if worker["state"] == "draining":
                worker["in_flight"] = max(0, worker["in_flight"] - 1)

    def traffic(self, worker: str) -> driver.Traffic:
        return driver.Traffic(self.ask, worker, self.sleep, lambda: self.now)

    def reboot(self, worker: str, *, error: ClusterAIError | None = None, down: int = 0) -> ClusterAIError | None:
        def run() -> ClusterAIError | None:
            self.log.append(f"reboot {worker}")
            self.down = down
            return error

        return driver.reboot(self.traffic(worker), run, lambda *step: None, back=5)


def test_a_worker_is_drained_until_its_answers_have_ended_then_rebooted_then_resumed() -> None:
    gateway = FakeGateway(a=3, b=1)
    assert gateway.reboot("a") is None
    assert gateway.log == ["drain a", "reboot a", "resume a"]
    assert gateway.now == pytest.approx(3 * POLL)
    assert gateway.workers["a"]["state"] == "active"


def test_a_worker_that_an_operator_has_drained_stays_drained() -> None:
    gateway = FakeGateway(a=2)
    gateway.workers["a"] |= {"state": "draining", "cordon": {"reason": "new fans"}}
    assert gateway.reboot("a") is None
    assert gateway.log == ["reboot a"]
    assert gateway.now == pytest.approx(2 * POLL)


def test_a_worker_that_the_gateway_does_not_know_and_a_cluster_without_gateway_have_nothing_to_drain() -> None:
    gateway = FakeGateway(b=1)
    assert gateway.reboot("a") is None
    gateway.down = 1
    assert gateway.reboot("b") is None
    assert gateway.log == ["reboot a", "reboot b"]


def test_a_head_that_takes_the_gateway_along_is_waited_for() -> None:
    gateway = FakeGateway(a=0)
    assert gateway.reboot("a", down=3) is None
    assert gateway.log == ["drain a", "reboot a", "resume a"]


def test_a_worker_whose_reboot_fails_gets_requests_again_and_its_error_is_told() -> None:
    gateway, error = FakeGateway(a=0), HostError("nvidia-smi finds no working driver", where="a")
    assert gateway.reboot("a", error=error) is error
    assert gateway.log == ["drain a", "reboot a", "resume a"]


def test_a_worker_gets_requests_again_where_the_user_stops_the_run() -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for busy in (0, 1):  # while it reboots, and while it is drained
        gateway = FakeGateway(a=busy)
        traffic = driver.Traffic(gateway.ask, "a", stop, lambda: 0)
        with pytest.raises(KeyboardInterrupt):
            driver.reboot(traffic, cast(Any, stop), lambda *step: None, back=5)
        assert gateway.log == ["drain a", "resume a"]


def test_a_worker_that_does_not_come_back_in_time_is_an_error() -> None:
    gateway = FakeGateway(a=0)
    gateway.back = False
    error = gateway.reboot("a")
    assert isinstance(error, RolloutError)
    assert (error.where, error.what) == ("a", "doesn't serve again 5 seconds after its reboot")


def test_a_worker_is_not_rebooted_where_the_gateway_refuses_to_tell() -> None:
    gateway = FakeGateway(a=0)
    gateway.status = 401
    error = gateway.reboot("a")
    assert error is not None
    assert "401" in error.what
    assert gateway.log == []


def test_the_head_is_last() -> None:
    assert driver.order({"a", "c", "b"}, "a") == ["b", "c", "a"]


@pytest.fixture
def rollout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[FakeGateway, set[str], set[str]], tuple[Any, list[str]]]:
    """Runs the executor's stages of the host layer, for hosts that wait for a reboot and those whose reboot fails."""

    def run(gateway: FakeGateway, waiting: set[str], bad: set[str]) -> tuple[Any, list[str]]:
        def converge(_: object, names: Sequence[str], *, playbook: str, **options: Any) -> AnsibleResult:
            gateway.log.append(f"{playbook} {' '.join(names)}")
            assert options["stamps"] == {name: f"stamp of {name}" for name in names}
            if playbook == "site.yml":
                return AnsibleResult(reboot=frozenset(waiting))
            return AnsibleResult(failed={name: HostError("no driver", where=name) for name in names if name in bad})

        monkeypatch.setattr(ansible, "converge", converge)
        monkeypatch.setattr(Executor, "_look_again", lambda self, found, names: found)
        monkeypatch.setattr(Scope, "gateway", lambda self, token: gateway)
        monkeypatch.setattr(credentials, "token", lambda config: "secret")
        stages: list[str] = []
        record = Record(Journal(tmp_path / "rollouts.sqlite"), cast(Lease, _Lease()))
        record.begin("cluster-ai apply", Intent("test", "rolling", "", {}, ()))
        executor = Executor(
            Scope(CONFIG), Placement(()), record, lambda title, hosts: stages.append(title), lambda event: None
        )
        report = Report()
        executor._host_layer(cast(Survey, _Found()), ["a", "b", "c"], report)
        steps = [(it.host, it.status) for it in record.journal.get().steps if it.step == "driver"]
        assert steps == [(name, status) for name in _rebooted(gateway) for status in ("start", _ended(name, bad))]
        return report.failed, stages

    return run


def _rebooted(gateway: FakeGateway) -> list[str]:
    return [line.split()[1] for line in gateway.log if line.startswith(driver.PLAYBOOK)]


def _ended(name: str, bad: set[str]) -> str:
    return "failed" if name in bad else "changed"


class _Lease:
    def doing(self, what: str) -> None:
        pass


class _Found:
    plan = Plan("test", (), (), ())
    stamps = {name: f"stamp of {name}" for name in "abc"}  # noqa: RUF012 (read only)


def test_hosts_that_wait_go_through_the_drivers_playbook_one_by_one(rollout: Any) -> None:
    gateway = FakeGateway(a=0, b=0, c=0)
    failed, stages = rollout(gateway, {"a", "c"}, set())
    assert not failed
    assert stages == ["host layer", "driver"]
    assert gateway.log == [
        "site.yml a b c",
        *("drain c", "gpu_driver.yml c", "resume c"),
        *("drain a", "gpu_driver.yml a", "resume a"),
    ]


def test_the_first_host_whose_driver_fails_ends_the_stage(rollout: Any) -> None:
    gateway = FakeGateway(a=0, b=0, c=0)
    failed, _ = rollout(gateway, {"a", "b", "c"}, {"b"})
    assert {name: error.what for name, error in failed.items()} == {"b": "no driver"}
    assert gateway.log == ["site.yml a b c", "drain b", "gpu_driver.yml b", "resume b"]
