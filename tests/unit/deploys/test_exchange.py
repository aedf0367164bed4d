"""What the controller does while hosts give files to each other: their sessions are played here, rsync is noted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest
from pyinfra.api import Host

from cluster_ai.deploys import remote, transfer
from cluster_ai.deploys.data import HostTarget
from cluster_ai.deploys.exchange import Exchange
from cluster_ai.deploys.remote import Failure

SHA = "a" * 64
Told = Callable[[dict[str, Any] | None], None]


class Played:
    """A session in which a host answers as it is told to: a source's name -> its message, "got" where there is none."""

    def __init__(self, told: Told, answers: dict[str, dict[str, Any] | None]) -> None:
        self.told, self.answers = told, answers
        self.asked: list[str] = []
        self.closed = False

    def order(self, **order: Any) -> None:
        if "fetch" in order:
            source = order["from"][0]
            self.asked.append(source)
            self.told(self.answers.get(source, {"got": order["fetch"]}))

    def close(self) -> None:
        self.closed = True


class Lab(Exchange):
    """An exchange of hosts whose sessions are played; `sent` is what went from here."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.sent, self.said = path, [], []  # type: ignore[var-annotated]
        self.answers: dict[str, dict[str, dict[str, Any] | None]] = {}
        self.sessions: dict[str, Played] = {}
        self.refused: set[str] = set()

    def open(self, host: Host, sizes: Any, told: Told) -> Any:
        if host.name in self.refused:
            return "no python3"
        self.sessions[host.name] = Played(told, self.answers.get(host.name, {}))
        self._sessions[host.name] = cast("Any", self.sessions[host.name])
        self.distribution.serves(host.name)
        return self.sessions[host.name]

    def push(self, name: str) -> str:
        target = HostTarget(name, name, "", "", (), ())
        host = cast("Host", SimpleNamespace(name=name))
        return self.bring(host, target, {SHA: str(self.path)}, {SHA}, self.said.append)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    (tmp_path / "part").write_bytes(bytes(2_000_000))
    made = Lab(tmp_path / "part")
    monkeypatch.setattr(remote, "as_root", lambda host: ([], [], "deploy"))
    monkeypatch.setattr(transfer, "send", lambda host, files, user, percent: made.sent.append(host.name))
    return made


def test_the_first_gets_it_from_here_and_the_others_from_hosts(lab: Lab) -> None:
    assert lab.push("h1") == "2 MB"
    assert lab.push("h2") == "0 kB from here, 2 MB from other hosts"
    assert lab.push("h3") == "0 kB from here, 2 MB from other hosts"
    assert lab.sent == ["h1"]


def test_a_source_that_fails_is_told_and_another_one_asked(lab: Lab) -> None:
    lab.answers["h3"] = {"h1": {"failed": SHA, "why": "corrupt", "said": "gives something else"}}
    lab.push("h1")
    lab.push("h2")
    assert lab.push("h3").endswith("2 MB from other hosts; h1: gives something else")
    assert lab.sessions["h3"].asked == ["h1", "h2"]
    assert "h1 is no source: gives something else" in lab.said


def test_where_no_other_host_can_be_reached_it_comes_from_here(lab: Lab) -> None:
    silent = {"failed": SHA, "why": "unreachable", "said": "timed out"}
    lab.answers["h4"] = dict.fromkeys(("h1", "h2", "h3"), silent)
    for name in ("h1", "h2", "h3"):
        lab.push(name)
    assert lab.push("h4") == "2 MB; h1: timed out; h2: timed out"
    assert lab.sent == ["h1", "h4"]


def test_a_host_whose_session_breaks_off_gets_the_rest_from_here_and_gives_nothing(lab: Lab) -> None:
    lab.answers["h2"] = {"h1": None}
    lab.push("h1")
    assert "the connection to its peer.py was lost" in lab.push("h2")
    assert lab.sent == ["h1", "h2"]
    assert lab.sessions["h2"].closed
    lab.push("h3")
    assert lab.sessions["h3"].asked == ["h1"]


def test_a_host_that_has_no_session_gets_all_from_here(lab: Lab) -> None:
    lab.refused.add("h2")
    lab.push("h1")
    assert lab.push("h2") == "2 MB; it can't share with other hosts: no python3"
    assert lab.sent == ["h1", "h2"]


def test_a_full_disk_is_that_hosts_failure(lab: Lab) -> None:
    lab.answers["h2"] = {"h1": {"failed": SHA, "why": "full", "said": "No space left on device"}}
    lab.push("h1")
    with pytest.raises(Failure, match="the disk is full"):
        lab.push("h2")


def test_what_rsync_says_fails_the_host(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise transfer.no_rsync()

    monkeypatch.setattr(transfer, "send", fail)
    with pytest.raises(Failure, match="has no rsync"):
        lab.push("h1")


def test_a_host_serves_until_nobody_wants_anything_any_more(lab: Lab) -> None:
    hosts = [cast("Host", SimpleNamespace(name=name)) for name in ("h1", "h2")]
    for host in hosts:
        host.state = cast("Any", SimpleNamespace(inventory=SimpleNamespace(get_active_hosts=lambda: hosts)))
    lab.push("h1")
    lab.settle(hosts[0], ok=True)
    ending = gevent.spawn(lab.end, hosts[0], [SHA])
    gevent.sleep(0)
    assert not lab.sessions["h1"].closed
    lab.settle(hosts[1], ok=False)
    ending.join(timeout=30)
    assert lab.sessions["h1"].closed
