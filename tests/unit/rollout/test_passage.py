"""Hosts on their way from one release to another: with a gateway that does as it is told, and no host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from cluster_ai.config.load import load_text
from cluster_ai.errors import ClusterAIError, RolloutError
from cluster_ai.rollout import credentials
from cluster_ai.rollout.journal import Intent, Journal
from cluster_ai.rollout.lease import Lease
from cluster_ai.rollout.passage import Passage
from cluster_ai.rollout.records import Record
from cluster_ai.rollout.scope import Scope

CONFIG = load_text(
    """\
version: '1.0'
cluster:
  name: 'test'
  scheduler: {host: '10.0.0.1'}
  workers:
    - {name: 'a', host: '10.0.0.2', resources: {cpu: 8, memory: '32GB'}}
    - {name: 'b', host: '10.0.0.3', resources: {cpu: 8, memory: '32GB'}}
  rollout: {drain_timeout: 1s, gate_timeout: 1s}
""",
    Path("cluster.yaml"),
)


class FakeGateway:
    """Knows who is drained. gone: workers that never become active again."""

    def __init__(self, gone: set[str]) -> None:
        self.drained: set[str] = set()
        self.refusing: set[str] = set()
        self.gone = gone
        self.log: list[str] = []

    def entry(self, name: str) -> dict[str, Any]:
        state = (
            "draining"
            if name in self.drained
            else "down"
            if f"resume {name}" in self.log and name in self.gone
            else "active"
        )
        cordon = {"reason": "rollout: test"} if name in self.drained else None
        return {"name": name, "state": state, "reason": None, "in_flight": 0, "cordon": cordon}

    def ask(self, method: str, path: str, body: Any = None, *, timeout: float = 0) -> tuple[int, Any]:
        if method == "GET":
            return 200, {"workers": [self.entry(name) for name in ("a", "b")]}
        name, what = path.split("/")[-2:]
        if name in self.refusing:
            return 401, {"error": "no good token"}
        self.log.append(f"{what} {name}")
        (self.drained.add if what == "drain" else self.drained.discard)(name)
        return 200, self.entry(name)


@pytest.fixture
def passage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Passage, FakeGateway]]:
    def make(gone: set[str] | None = None) -> tuple[Passage, FakeGateway]:
        gateway = FakeGateway(gone or set())
        monkeypatch.setattr(Scope, "gateway", lambda self, token: gateway)
        monkeypatch.setattr(credentials, "token", lambda config: "secret")
        record = Record(Journal(tmp_path / "rollouts.sqlite"), cast(Lease, None))
        record.begin("cluster-ai apply", Intent("test", "rolling", "", {}, ()))
        return Passage(Scope(CONFIG), record, lambda title, names: None, lambda event: None), gateway

    return make


def steps(passage: Passage) -> list[str]:
    return [f"{it.step} {it.host} {it.status}" for it in passage.record.journal.get().steps]


def test_workers_get_nothing_new_while_they_are_switched_and_requests_again_after(passage: Any) -> None:
    made, gateway = passage()

    def work() -> dict[str, ClusterAIError | None]:
        assert gateway.drained == {"a", "b"}
        return {"a": None, "b": None}

    assert made.run("switch", ["a", "b"], ["a", "b"], work) == {"a": None, "b": None}
    assert not gateway.drained
    assert steps(made)[:2] == ["switch a start", "switch b start"]
    assert steps(made)[-2:] == ["switch a changed", "switch b changed"]


def test_a_worker_that_does_not_serve_again_has_failed(passage: Any) -> None:
    made, _ = passage(gone={"b"})
    outcomes = made.run("switch", ["a", "b"], ["a", "b"], lambda: {"a": None, "b": None})
    assert outcomes["a"] is None
    assert isinstance(outcomes["b"], RolloutError)
    assert outcomes["b"].where == "b"


def test_requests_are_given_again_whatever_came_of_the_work(passage: Any) -> None:
    made, gateway = passage()

    def work() -> dict[str, ClusterAIError | None]:
        raise RolloutError("pyinfra's process failed")

    with pytest.raises(RolloutError):
        made.run("switch", ["a"], ["a"], work)
    assert gateway.log == ["drain a", "resume a"]


def test_who_serves_nobody_is_not_drained(passage: Any) -> None:
    made, gateway = passage()
    made.run("switch", ["a"], [], lambda: {"a": None})
    assert gateway.log == []
    assert made.workers(["10.0.0.1", "a", "b"]) == ["a", "b"]


def test_where_one_cannot_be_drained_none_is_switched_and_the_others_serve_on(passage: Any) -> None:
    made, gateway = passage()
    gateway.refusing.add("b")
    outcomes = made.run("switch", ["a", "b"], ["a", "b"], lambda: pytest.fail("nothing is to be switched"))
    assert all(isinstance(error, RolloutError) for error in outcomes.values())
    assert set(outcomes) == {"a", "b"}
    assert gateway.log == ["drain a", "resume a"]
