"""A controller dies at every moment of a rollout: what it left is resumed, or undone, and nothing stays half done.

The fleet is made up; that the same holds on real hosts, `make rollout-test` shows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster_ai import layout
from cluster_ai.config.groups import policies
from cluster_ai.config.load import load_text
from cluster_ai.config.model import hosts
from cluster_ai.placement.place import Assignment, Placement
from cluster_ai.provision.pyinfra import HostOutcome
from cluster_ai.rollout import credentials, executor, gate, resuming, traffic, undo
from cluster_ai.rollout.executor import Executor
from cluster_ai.rollout.journal import Journal, Rollout
from cluster_ai.rollout.lease import Lease
from cluster_ai.rollout.observe import Observed, parse
from cluster_ai.rollout.passage import Passage
from cluster_ai.rollout.plan import HostPlan, UnitChange, plan_cluster
from cluster_ai.rollout.records import Record, intent
from cluster_ai.rollout.scope import Scope
from cluster_ai.rollout.survey import Survey

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
    Path(__file__),
)
SCOPE = Scope(CONFIG)
PLACEMENT = Placement((Assignment("m", "a", "cpu", 1), Assignment("m", "b", "cpu", 1)))
OLD, NEW = "a" * 64, "b" * 64
NAMES = [host.name for host in hosts(CONFIG)]
NOTHING = parse("", "cluster-ai-probe=1\ncluster-ai-probe=end")


class Died(BaseException):
    """The process is no more: nothing that it would still do is done."""


@dataclass
class Life:
    """How many things a controller still does before it dies."""

    left: int
    spent: int = 0

    def passes(self) -> None:
        if self.spent >= self.left:
            raise Died
        self.spent += 1


class Fleet:
    """Hosts and a gateway. A switch that its controller doesn't see through ends as it began."""

    def __init__(self) -> None:
        self.life = Life(1000)
        self.runs = dict.fromkeys(NAMES, OLD)
        self.has = {name: {OLD} for name in NAMES}
        self.switching: dict[str, str] = {}
        self.drained: dict[str, str] = {}

    # --- what the product asks of it

    def push(self, _: Any, targets: Sequence[Any], **__: Any) -> dict[str, HostOutcome]:
        for target in targets:
            self.life.passes()
            self.has[target.name].add(target.digest)
        return {target.name: HostOutcome(True, True) for target in targets}

    def switch(self, _: Any, targets: Sequence[Any], **__: Any) -> dict[str, HostOutcome]:
        self._switch({target.name: target.digest for target in targets})
        return {target.name: HostOutcome(True, True) for target in targets}

    def known(self, _: Passage, title: str, releases: dict[str, str]) -> dict[str, None]:
        self._switch(releases)
        return dict.fromkeys(releases)

    def _switch(self, releases: dict[str, str]) -> None:
        for name in releases:
            self.switching.pop(name, None)  # one that nobody leads any more is awaited
        for name, digest in releases.items():
            self.life.passes()
            assert digest in self.has[name]
            assert name not in ("a", "b") or name in self.drained, "what it serves would break off"
            self.switching[name] = digest
        for name, digest in releases.items():
            self.life.passes()
            del self.switching[name]
            self.runs[name] = digest

    def ask(self, method: str, path: str, body: Any = None, *, timeout: float = 0, policy: str = "") -> tuple[int, Any]:
        self.life.passes()
        if method == "GET":
            return 200, {"workers": [self._worker(name) for name in ("a", "b")]}
        if path == "/api/generate":
            return 200, {"done": True}
        name, what = path.split("/")[-2:]
        if what == "drain":
            self.drained[name] = body["reason"]
        else:
            self.drained.pop(name, None)
        return 200, self._worker(name)

    def _worker(self, name: str) -> dict[str, Any]:
        cordon = {"reason": self.drained[name]} if name in self.drained else None
        return {"name": name, "state": "draining" if cordon else "active", "in_flight": 0, "cordon": cordon}

    # --- what is seen of it

    def seen(self) -> dict[str, Observed]:
        return {
            name: replace(
                NOTHING,
                host=name,
                current=self.runs[name],
                switching=self.switching.get(name),
                releases=frozenset(self.has[name]),
            )
            for name in NAMES
        }

    def survey(self) -> Survey:
        restart = (UnitChange(layout.ENGINE, "restart", "other code"),)
        plans = [
            HostPlan(
                host.name, host.address, (), self.runs[host.name], NEW, units=restart * (self.runs[host.name] != NEW)
            )
            for host in hosts(CONFIG)
        ]
        plan = plan_cluster(
            "test", plans, (), head=SCOPE.head.name, groups=policies(CONFIG), placed=PLACEMENT.workers()
        )
        releases: Any = {name: SimpleNamespace(digest=NEW) for name in NAMES}
        return Survey(plan, self.seen(), releases, {})


@dataclass
class Mortal(Journal):
    """Each of its records is a moment to die at."""

    path: Path
    fleet: Fleet

    def __post_init__(self) -> None:
        super().__init__(self.path)

    def step(self, *arguments: Any) -> None:
        self.fleet.life.passes()
        super().step(*arguments)

    def set_state(self, *arguments: Any) -> None:
        self.fleet.life.passes()
        super().set_state(*arguments)


@dataclass
class Trial:
    """Controllers of one fleet, one after the other."""

    path: Path
    fleet: Fleet = field(default_factory=Fleet)

    def executor(self, begin: Callable[[Record], None]) -> Executor:
        lease = cast(Lease, SimpleNamespace(doing=lambda what: self.fleet.life.passes()))
        record = Record(Mortal(self.path, self.fleet), lease)
        begin(record)
        return Executor(SCOPE, PLACEMENT, record, lambda title, names: None, lambda event: None)

    def apply(self, life: int) -> int:
        """Until it is done, or its life is over. Returns how long that took."""
        self.fleet.life = Life(life)
        found = self.fleet.survey()
        try:
            made = self.executor(lambda record: record.begin("apply", intent(CONFIG, found.plan)))
            assert made.run(found).ok
        except Died:
            pass
        spent, self.fleet.life = self.fleet.life.spent, Life(1000)
        return spent

    def interrupted(self) -> Rollout:
        journal = Journal(self.path)
        journal.interrupt_running()
        return journal.get()

    def resume(self) -> None:
        found, rollout = self.fleet.survey(), self.interrupted()
        waves = resuming.left(rollout, found)
        assert self.executor(lambda record: record.resume(rollout, "resume")).run(found, waves).ok

    def undo(self) -> None:
        rollout, seen = self.interrupted(), self.fleet.seen()
        changes = undo.still_there(rollout, undo.of([rollout], seen))
        assert undo.possible(changes, seen) == []
        made = self.executor(lambda record: record.resume(rollout, "undo"))
        waves = undo.halves(list(changes), SCOPE.head.name)
        assert undo.switch_back(SCOPE, made.record, changes, waves, made.on_stage, made.on_event).ok


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory, where there is such a place: thousands of commits are made."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as name:
        yield Path(name)


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[[], Trial]:
    current: list[Trial] = []
    monkeypatch.setattr(executor, "push", lambda *a, **k: current[-1].fleet.push(*a, **k))
    monkeypatch.setattr(executor, "switch", lambda *a, **k: current[-1].fleet.switch(*a, **k))
    monkeypatch.setattr(executor, "prune", lambda *a, **k: {})
    monkeypatch.setattr(
        executor, "host_target", lambda scope, found, host, renew: SimpleNamespace(name=host.name, digest=NEW)
    )
    monkeypatch.setattr(Passage, "_switch", lambda *a: current[-1].fleet.known(*a))
    monkeypatch.setattr(Scope, "gateway", lambda self, token: cast(gate.Gateway, current[-1].fleet))
    monkeypatch.setattr(credentials, "token", lambda config: "secret")

    def make() -> Trial:
        current.append(Trial(folder / f"{len(current)}.sqlite"))
        return current[-1]

    return make


@pytest.mark.parametrize("way", ["resume", "undo"])
def test_at_whichever_moment_a_controller_dies_its_rollout_can_be_ended(trial: Callable[[], Trial], way: str) -> None:
    moments = trial().apply(1000)
    assert moments > 30
    for moment in range(moments):
        it = trial()
        it.apply(moment)
        getattr(it, way)()
        traffic.lift(it.fleet.ask)
        wanted = NEW if way == "resume" else OLD
        assert it.fleet.runs == dict.fromkeys(NAMES, wanted), moment
        assert not it.fleet.switching, moment
        assert not it.fleet.drained, moment
