"""The lease, with this machine in the place of the head host: the script that runs there is the real one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster_ai import layout
from cluster_ai.errors import ExitCode, HostError, LockedError, RolloutError
from cluster_ai.provision import ssh
from cluster_ai.rollout import lease
from cluster_ai.rollout.journal import STATES, Intent, Journal, Rollout
from cluster_ai.rollout.lease import Head, Lease

HERE = Head("head", ("sh", "-c"))  # ssh's command line up to the address; the script is its last word


@dataclass
class Site:
    journal: Journal
    id: str

    def record(self) -> Rollout:
        return self.journal.get(self.id)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(layout, "STATE", PurePosixPath(tmp_path / "state"))
    monkeypatch.setattr(layout, "TEXTFILES", PurePosixPath(tmp_path / "textfiles"))
    (tmp_path / "textfiles").mkdir()
    monkeypatch.setattr(ssh, "remote_command", lambda script, **_: script)
    journal = Journal(tmp_path / "rollouts.sqlite")
    return Site(journal, journal.begin("cluster-ai apply", "me@here", Intent("test", "rolling", "c", {}, ())))


def holding(site: Site, doing: str, controller: str) -> Lease:
    return Lease(HERE, doing, controller, site.record)


def test_a_second_controller_is_told_who_holds_it_since_when_and_what_it_does(site: Site) -> None:
    with holding(site, "cluster-ai apply", "one") as held:
        held.doing("wave 2 of 3: h3")
        with pytest.raises(
            LockedError, match=r"another run changes this cluster: .*@.* for \d+ s: wave 2 of 3: h3"
        ) as e:
            holding(site, "cluster-ai apply", "two").__enter__()
        assert e.value.where == "head"
        assert e.value.exit_code == ExitCode.LOCKED
    with holding(site, "cluster-ai apply", "two") as second:
        assert second.released > 0


def test_a_lease_that_has_expired_may_be_taken_and_its_holder_stops(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LIFE", 0.0)
    with (
        holding(site, "cluster-ai apply", "one") as first,
        holding(site, "cluster-ai apply", "two"),
        pytest.raises(RolloutError, match="the lease was lost, and another run has taken it"),
    ):
        first.doing("wave 1 of 1: h1")


def test_what_a_killed_run_of_this_very_controller_left_behind_is_void(site: Site) -> None:
    dead = holding(site, "cluster-ai apply", "one")
    assert dead._order("acquire")["ok"]
    with holding(site, "cluster-ai apply", "one"):
        pass


def test_the_head_keeps_a_copy_of_the_record(site: Site) -> None:
    with holding(site, "cluster-ai apply", "one") as held:
        site.journal.step(site.id, "switch", "h1", "start")
        held.doing("wave 1 of 1: h1")
        copies, holder = HERE.read()
        assert copies == (site.record(),)
        assert holder["doing"] == "wave 1 of 1: h1"
        site.journal.set_state(site.id, "done")
    assert HERE.read() == ((site.record(),), {})


def test_prometheus_is_told_on_the_head_what_state_the_rollout_is_in(site: Site, tmp_path: Path) -> None:
    def states() -> dict[str, float]:
        (page,) = (tmp_path / "textfiles").iterdir()
        families = {it.name: it for it in text_string_to_metric_families(page.read_text())}
        return {s.labels["state"]: s.value for s in families["cluster_rollout_state"].samples}

    with holding(site, "cluster-ai apply", "one") as held:
        held.doing("wave 1 of 1: h1")
        assert states() == {**dict.fromkeys(STATES, 0), "running": 1}
        site.journal.set_state(site.id, "paused")
    assert states() == {**dict.fromkeys(STATES, 0), "paused": 1}


def test_a_head_that_cannot_keep_it_says_why(site: Site, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way of the folder")
    with pytest.raises(HostError, match="head: can't keep the lease: NotADirectoryError"):
        holding(site, "cluster-ai apply", "one").__enter__()
    with pytest.raises(HostError):
        replace(HERE, argv=("false",)).read()
