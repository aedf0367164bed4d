"""Whatever hosts want, and whatever fails: nobody is sent a file by one who can't have it, and nobody goes without."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cluster_ai.deploys.distribution import CONTROLLER, FAN_OUT, Distribution, Step, plan

HOSTS = [f"h{number}" for number in range(12)]
FILES = ["engine", "lib", "model"]
some_files = st.frozensets(st.sampled_from(FILES))


@given(st.dictionaries(st.sampled_from(HOSTS), st.tuples(some_files, some_files)), st.integers(1, 4))
def test_each_host_gets_each_file_once_from_one_that_has_it_and_the_controller_sends_it_once_at_most(
    wishes: dict[str, tuple[frozenset[str], frozenset[str]]], fan_out: int
) -> None:
    have = {host: there for host, (there, _) in wishes.items()}
    missing = {host: wanted - there for host, (there, wanted) in wishes.items()}
    steps = plan(wishes, have, missing, fan_out)
    assert Counter((step.file, step.host) for step in steps) == Counter(
        (file, host) for host, files in missing.items() for file in files
    )
    there = {(file, host) for host, files in have.items() for file in files}
    for step in steps:
        assert step.source == CONTROLLER or (step.file, step.source) in there
        there.add((step.file, step.host))
    assert max(Counter(step.file for step in steps if step.source == CONTROLLER).values(), default=0) <= 1
    sent = Counter((step.file, step.source) for step in steps if step.source != CONTROLLER)
    assert max(sent.values(), default=0) <= fan_out


def test_two_hundred_hosts_are_reached_over_few_others() -> None:
    hosts = [f"h{number}" for number in range(200)]
    steps = plan(hosts, {}, {host: ["engine"] for host in hosts})
    depth = {CONTROLLER: 0}
    for step in steps:
        depth[step.host] = depth[step.source] + 1
    assert max(depth.values()) <= 8


def test_a_file_that_a_host_has_leaves_the_controller_no_more() -> None:
    assert plan(["new", "old"], {"old": ["model"]}, {"new": ["model"]}) == (Step("model", "old", "new"),)


def test_hosts_that_cannot_be_reached_from_here_are_asked_twice_at_most() -> None:
    state = Distribution()
    for host in HOSTS:
        state.serves(host)
    for host in HOSTS[:-1]:
        state.arrived("model", state.wants("model", host).host)
    step, asked = state.wants("model", HOSTS[-1]), []
    while step.source != CONTROLLER:
        asked.append(step.source)
        step = state.failed(step, "unreachable")
    assert len(asked) == 2
    assert state.wants("engine", HOSTS[-1]).source == CONTROLLER


def test_a_host_that_gave_something_wrong_is_asked_for_it_by_nobody() -> None:
    state = Distribution()
    for host in HOSTS:
        state.serves(host)
    first = state.wants("model", "h0")
    state.arrived("model", first.host)
    step = state.wants("model", "h1")
    assert step.source == "h0"
    assert state.failed(step, "corrupt").source == CONTROLLER
    assert state.wants("model", "h2").source == "h1"
    assert state.wants("model", "h3").source in ("h1", "h2")


class Rollout(RuleBasedStateMachine):
    """Hosts join, ask, get, fail and leave in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = Distribution()
        self.serving: set[str] = set()
        self.under_way: dict[tuple[str, str], Step] = {}
        self.whole: set[tuple[str, str]] = set()

    def goes(self, step: Step) -> None:
        self.under_way[step.file, step.host] = step
        if step.source != CONTROLLER:
            assert step.source in self.serving
            assert step.source != step.host
            self.follow(step)

    def follow(self, step: Step) -> None:
        """What comes from a source comes from the controller in the end, or from one that has all of it."""
        passed = {step.host}
        while step.source != CONTROLLER and (step.file, step.source) not in self.whole:
            assert step.source not in passed
            passed.add(step.source)
            step = self.under_way[step.file, step.source]

    @rule(host=st.sampled_from(HOSTS))
    def join(self, host: str) -> None:
        self.state.serves(host)
        self.serving.add(host)

    @rule(host=st.sampled_from(HOSTS), file=st.sampled_from(FILES))
    def ask(self, host: str, file: str) -> None:
        if (file, host) not in self.under_way and (file, host) not in self.whole:
            self.goes(self.state.wants(file, host))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.under_way:
            key = data.draw(st.sampled_from(sorted(self.under_way)))
            step = self.under_way[key]
            why = data.draw(st.sampled_from(["", "unreachable", "corrupt"]))
            if not why or step.source == CONTROLLER:
                del self.under_way[key]
                self.whole.add(key)
                self.state.arrived(*key)
            else:
                again = self.state.failed(step, "corrupt" if why == "corrupt" else "unreachable")
                assert again.source != step.source
                self.goes(again)

    @rule(host=st.sampled_from(HOSTS))
    def leave(self, host: str) -> None:
        self.state.left(host)
        self.serving.discard(host)
        self.whole = {key for key in self.whole if key[1] != host}
        self.under_way = {key: step for key, step in self.under_way.items() if key[1] != host}

    @invariant()
    def nobody_sends_too_much_at_once(self) -> None:
        sent = Counter((step.file, step.source) for step in self.under_way.values() if step.source != CONTROLLER)
        assert max(sent.values(), default=0) <= FAN_OUT


TestRollout = Rollout.TestCase
