"""A switch that nobody confirms, for whatever reason, ends on the release that ran before: on a host, by itself."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.config import Config
from cluster_ai.deploys.data import Event, HostTarget
from cluster_ai.errors import RolloutError
from cluster_ai.inventory.ssh import ssh_argv
from tests.lab.conftest import PATIENT, Cluster, until
from tests.lab.releases import broken, current, is_whole, pushed, switched

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

BLOCKADE = """
systemd-run --quiet --collect --unit blockade --property=PartOf=cluster-ai-engine.service \
    --property='ExecStopPost=/usr/sbin/nft delete table inet blockade' sleep infinity
nft 'table inet blockade { chain in { type filter hook input priority -10; tcp dport 22 ct state new drop; }; }'
"""


@pytest.fixture
def another(config: Config, target: HostTarget, events: list[Event], tmp_path: Path) -> HostTarget:
    """A right release, and another one than the last host runs; it has been pushed there."""
    made = broken(target, tmp_path, "etc/worker.json", lambda text: text + b"\n" * len(tmp_path.name))
    assert pushed(config, made, events).ok
    return made


@contextlib.contextmanager
def switching(config: Config, target: HostTarget, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The switch script, started over SSH by somebody who confirms nothing."""
    argv = ssh_argv(config.ssh, target.address, persist=False)
    words = ("sudo", f"{layout.LIBEXEC}/switch", "--timeout", str(PATIENT), *options, target.digest)
    client = subprocess.Popen([*argv, " ".join(words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield client
    finally:
        client.kill()
        client.communicate()


def waits(client: subprocess.Popen[str]) -> None:
    """Until the host is healthy with the new release, and waits for its confirmation."""
    assert client.stdout
    said = []
    for line in client.stdout:
        said.append(line)
        if line.startswith("healthy; waiting"):
            return
    raise AssertionError("".join(said))


def is_back(cluster: Cluster, target: HostTarget) -> None:
    until(lambda: current(cluster, target.name) == target.digest)
    until(lambda: is_whole(cluster, target.name))
    pending = f"ls {layout.STATE} | grep -x pending"  # taken away last, when the switch has ended
    until(lambda: not cluster.lab.run_on(target.name, pending, check=False))


def test_without_a_confirmation_a_healthy_host_goes_back(
    cluster: Cluster, config: Config, target: HostTarget, another: HostTarget
) -> None:
    with switching(config, another, "--confirm-within", "3") as client:
        said, _ = client.communicate(timeout=PATIENT)
        assert client.returncode == 15, said
    assert "not confirmed within 3 s" in said
    assert f"back on {target.digest}" in said
    assert f"{another.digest} returned" in cluster.lab.run_on(target.name, f"cat {layout.STATE}/last-switch")
    is_back(cluster, target)


def test_the_death_of_the_controller_is_no_confirmation(
    cluster: Cluster, config: Config, target: HostTarget, another: HostTarget
) -> None:
    with switching(config, another, "--confirm-within", "5") as client:
        waits(client)
        client.kill()
    is_back(cluster, target)


def test_only_what_waits_can_be_confirmed_and_then_it_stays(
    cluster: Cluster, config: Config, target: HostTarget, another: HostTarget, events: list[Event]
) -> None:
    confirm = f"{layout.LIBEXEC}/switch --confirm {another.digest}; echo status=$?"
    assert "status=16" in cluster.lab.run_on(target.name, confirm)
    with switching(config, another) as client:
        waits(client)
        assert "status=0" in cluster.lab.run_on(target.name, confirm)
        client.communicate(timeout=PATIENT)
        assert client.returncode == 0
    assert current(cluster, target.name) == another.digest
    until(lambda: is_whole(cluster, target.name))
    assert switched(config, target, events).ok
    is_back(cluster, target)


def test_a_switch_that_is_killed_is_settled(
    cluster: Cluster, config: Config, target: HostTarget, another: HostTarget
) -> None:
    with switching(config, another) as client:
        waits(client)
        cluster.lab.run_on(target.name, f"systemctl kill --signal=KILL {layout.SWITCHING}")
        said, _ = client.communicate(timeout=PATIENT)
        assert client.returncode == 10, said
    assert "the switch was killed" in said
    is_back(cluster, target)


@pytest.mark.parametrize("moment", ["in its midst", "before it is confirmed"])
def test_after_a_power_cut_a_host_boots_with_what_was_confirmed(
    cluster: Cluster, config: Config, target: HostTarget, another: HostTarget, moment: str
) -> None:
    with switching(config, another) as client:
        if moment == "in its midst":
            until(lambda: current(cluster, target.name) == another.digest)
        else:
            waits(client)
        cluster.lab("kill", target.name)
    cluster.lab("start", target.name)
    is_back(cluster, target)
    assert f"{another.digest} returned" in cluster.lab.run_on(target.name, f"cat {layout.STATE}/last-switch")


def test_a_host_that_is_cut_off_after_its_switch_goes_back(
    cluster: Cluster, config: Config, target: HostTarget, another: HostTarget
) -> None:
    with switching(config, another, "--confirm-within", "5") as client:
        waits(client)
        cluster.lab("partition", target.name, "on")
        try:
            until(lambda: current(cluster, target.name) == target.digest)
        finally:
            cluster.lab("partition", target.name, "off")
    is_back(cluster, target)


def test_a_release_that_locks_ssh_out_undoes_itself(
    cluster: Cluster, config: Config, target: HostTarget, events: list[Event], tmp_path: Path
) -> None:
    cluster.lab.run_on(target.name, f"cat >/root/blockade <<'END'\n{BLOCKADE}\nEND")
    add: Callable[[bytes], bytes] = lambda text: text.replace(  # noqa: E731
        b"[Service]\n", b"[Service]\nExecStartPre=+/bin/sh /root/blockade\n"
    )
    bad = broken(target, tmp_path, f"units/{layout.ENGINE}", add)
    assert pushed(config, bad, events).ok
    outcome = switched(config, bad, events)
    assert isinstance(outcome.error, RolloutError)
    assert "no new connection could confirm it" in outcome.error.what
    assert "a new connection could not be made" in outcome.error.what
    is_back(cluster, target)
    fresh = subprocess.run([*ssh_argv(config.ssh, target.address, persist=False), "true"], capture_output=True)
    assert fresh.returncode == 0
