"""Push, switch and the way back, on the real hosts of an applied cluster: what is broken never becomes what runs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.config import Config
from cluster_ai.deploys.data import Event, HostTarget
from cluster_ai.errors import HostError, RolloutError
from cluster_ai.inventory.ssh import ssh_argv
from cluster_ai.provision.pyinfra import HostOutcome, push
from cluster_ai.rollout.targets import targets
from tests.lab.conftest import PATIENT, ROOT, Cluster, until
from tests.lab.releases import broken, current, is_whole, pushed, switched

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def test_what_runs_already_is_neither_pushed_nor_switched_again(
    cluster: Cluster, config: Config, target: HostTarget, events: list[Event]
) -> None:
    assert pushed(config, target, events) == HostOutcome(ok=True, changed=False)
    assert switched(config, target, events) == HostOutcome(ok=True, changed=False)
    assert {event.status for event in events} == {"start", "ok"}


def test_a_release_whose_unit_dies_is_put_back(
    cluster: Cluster, config: Config, target: HostTarget, events: list[Event], tmp_path: Path
) -> None:
    bad = broken(
        target,
        tmp_path,
        f"units/{layout.ENGINE}",
        lambda text: text.replace(b"engine/bin/ollama serve", b'sh -c "echo the engine is broken on purpose; exit 1"'),
    )
    assert pushed(config, bad, events).ok
    outcome = switched(config, bad, events)
    assert isinstance(outcome.error, RolloutError)
    assert outcome.error.where == target.name
    assert "runs the one before again" in str(outcome.error)
    assert "the engine is broken on purpose" in str(outcome.error)
    assert current(cluster, target.name) == target.digest
    until(lambda: is_whole(cluster, target.name))


def test_a_part_whose_hash_does_not_match_is_refused_before_anything_is_switched(
    cluster: Cluster, config: Config, target: HostTarget, events: list[Event], tmp_path: Path
) -> None:
    made = broken(target, tmp_path, "etc/worker.json", lambda text: text + b" ")
    path = tmp_path / "host.tar.gz"
    path.write_bytes(path.read_bytes() + b"x")
    outcome = pushed(config, made, events)
    expected = next(sha for name, sha, _ in made.parts if name == "host")
    assert isinstance(outcome.error, RolloutError)
    assert "part host" in outcome.error.what
    assert f"expected {expected}" in outcome.error.what
    assert hashlib.sha256(path.read_bytes()).hexdigest() in outcome.error.what
    assert made.digest not in cluster.lab.run_on(target.name, f"ls -A {layout.RELEASES} {layout.PARTS}")
    assert current(cluster, target.name) == target.digest


@pytest.fixture
def small_disk(cluster: Cluster) -> Iterator[None]:
    """The last host, with a disk for incoming files and parts on which nearly nothing is left."""
    host = cluster.hosts[-1]
    cluster.lab.run_on(host, f"mount -t tmpfs -o size=70m tmpfs {layout.STATE}/incoming")
    cluster.lab.run_on(host, f"mount -t tmpfs -o size=70m tmpfs {layout.PARTS}")
    yield
    cluster.lab.run_on(host, f"umount {layout.STATE}/incoming; umount {layout.PARTS}")


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_told_with_numbers_and_leaves_nothing_half_written(
    cluster: Cluster, config: Config, target: HostTarget, events: list[Event], tmp_path: Path
) -> None:
    made = broken(target, tmp_path, "etc/worker.json", lambda text: text + b"  ")
    outcome = pushed(config, made, events)
    assert isinstance(outcome.error, HostError)
    assert outcome.error.where == target.name
    assert "MiB are needed" in outcome.error.what
    assert "MiB are free" in outcome.error.what
    assert cluster.lab.run_on(target.name, f"ls -A {layout.PARTS} {layout.STATE}/incoming").split() == [
        f"{layout.PARTS}:",
        f"{layout.STATE}/incoming:",
    ]
    assert current(cluster, target.name) == target.digest


def test_a_switch_goes_on_when_the_connection_is_lost(
    cluster: Cluster, config: Config, target: HostTarget, events: list[Event], tmp_path: Path
) -> None:
    bad = broken(
        target, tmp_path, f"units/{layout.ENGINE}", lambda text: text.replace(b"ollama serve", b"ollama nothing")
    )
    assert pushed(config, bad, events).ok
    argv = ssh_argv(config.ssh, target.address, persist=False)
    client = subprocess.Popen(
        [*argv, f"sudo {layout.LIBEXEC}/switch --timeout {PATIENT} {bad.digest}"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert client.stdout
        assert any(line.startswith("restarting: ") for line in client.stdout)
    finally:
        client.kill()
        client.communicate()
    last = f"cat {layout.STATE}/last-switch"
    until(lambda: f"{bad.digest} returned" in cluster.lab.run_on(target.name, last))
    assert current(cluster, target.name) == target.digest
    until(lambda: is_whole(cluster, target.name))


def test_a_changed_file_is_put_right_by_a_push(
    cluster: Cluster, config: Config, target: HostTarget, events: list[Event]
) -> None:
    release = layout.RELEASES / target.digest
    cluster.lab.run_on(
        target.name, f"echo >>{release}/etc/worker.json; touch {release}/etc/more; rm {release}/bin/launch"
    )
    assert pushed(config, target, events) == HostOutcome(ok=True, changed=True)
    until(lambda: is_whole(cluster, target.name))


def test_a_wrong_sudo_password_a_refused_key_and_a_host_that_is_down_are_told_while_others_are_done(
    cluster: Cluster, config: Config, target: HostTarget, events: list[Event], tmp_path: Path
) -> None:
    lab, (_, down, refusing, asking) = cluster.lab, cluster.hosts
    hosts = {t.name: t for t in targets(cluster.config_path, None)[0]}
    close = [sys.executable, "-c", "import os, sys; os.execvp('ssh', ['ssh', '-O', 'exit', *sys.argv[1:]])"]
    for name in (down, refusing, asking):  # connections that are open already would not see it
        subprocess.run([*close, *ssh_argv(config.ssh, hosts[name].address)[1:]], capture_output=True, cwd=ROOT)
    lab("kill", down)
    lab.run_on(refusing, "mv /home/deploy/.ssh/authorized_keys /home/deploy/.ssh/away")
    lab.run_on(asking, "echo 'deploy:right' | chpasswd; sed -i s/NOPASSWD:// /etc/sudoers.d/deploy")
    try:
        found = push(config, list(hosts.values()), sudo_password="wrong", on_event=events.append)
        right = push(config, [hosts[asking]], sudo_password="right", on_event=events.append)
    finally:
        lab("start", down)
        lab.run_on(refusing, "mv /home/deploy/.ssh/away /home/deploy/.ssh/authorized_keys")
        lab.run_on(asking, "echo 'deploy ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/deploy")
    assert found[lab.address(cluster.hosts[0])].ok  # the head host has its address for a name
    for name, word in ((down, "refuses connections"), (refusing, "refuses our SSH key"), (asking, "sudo refuses")):
        error = found[name].error
        assert isinstance(error, HostError)
        assert error.where == name
        assert word in error.what
        assert error.remedy
    assert right[asking].ok


def test_old_releases_go_but_never_those_that_run_or_lead_back(cluster: Cluster, target: HostTarget) -> None:
    host = target.name
    cluster.lab.run_on(
        host, f"mkdir -p {layout.RELEASES}/aaaa {layout.PARTS}/bbbb; touch -d 2000-01-01 {layout.RELEASES}/aaaa"
    )
    kept = cluster.lab.run_on(host, f"readlink {layout.CURRENT} {layout.ROOT}/previous", check=False).split()
    cluster.lab.run_on(host, f"{layout.LIBEXEC}/switch --prune 1")
    left = cluster.lab.run_on(host, f"ls {layout.RELEASES} {layout.PARTS}").split()
    assert "aaaa" not in left
    assert "bbbb" not in left
    assert {link.rpartition("/")[2] for link in kept} <= set(left)
    until(lambda: is_whole(cluster, host))
