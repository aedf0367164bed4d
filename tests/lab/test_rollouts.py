"""Rollouts on real hosts: what is kept of them, what becomes of one that is cut off, and the ways back.

Each test leaves the cluster as it found it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.errors import ExitCode
from cluster_ai.rollout.journal import Journal, Rollout, Step
from tests.lab.conftest import ROOT, Cluster
from tests.rig.processes import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

NEXT = iter(range(1100, 2000))  # so that every test makes a release of its own


def another(edited: Callable[[str, str], None]) -> None:
    """A change that gives every host another release, and restarts what serves on it: gateway and engines."""
    number = next(NEXT)
    edited("num_ctx: 2048", f"num_ctx: {number}")
    edited("    version: '0.17.4'\n", f"    version: '0.17.4'\n    keep_alive: '{number}s'\n")


def journal(cluster: Cluster) -> Journal:
    return Journal(cluster.config_path.parent / ".cluster-ai" / "rollouts.sqlite")


def releases(cluster: Cluster) -> dict[str, str]:
    return {host["host"]: host["release"] for host in cluster.json("status")["hosts"]}


def is_well(cluster: Cluster) -> None:
    """Every host runs a whole release, and every worker serves."""
    status = cluster.json("status")
    assert status["gateway"]["active_workers"] == status["gateway"]["total_workers"], status
    for host in cluster.hosts:
        agent = "/opt/cluster-ai/current/bin/launch python3 -m cluster_ai.host verify --json etc/host.json"
        found = json.loads(cluster.lab.run_on(host, agent, check=False))
        assert not found["drift"], found


@contextlib.contextmanager
def running(cluster: Cluster, config: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "cluster_ai", "--config", str(config), *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def reaches(book: Journal, before: str, there: Callable[[Step], bool]) -> Rollout:
    """Waits until a rollout that is newer than the one named has done a step."""
    found: list[Rollout] = []

    def look() -> bool:
        found[:] = [it for it in book.all(1) if it.id != before and any(map(there, it.steps))]
        return bool(found)

    until(look, within=300, what="the step in the journal")
    return found[0]


def newest(cluster: Cluster) -> str:
    kept = journal(cluster).all(1)
    return kept[0].id if kept else ""


STEPS = {
    "push": lambda it: it.step == "push" and it.status == "start",
    "the head's switch": lambda it: it.step == "switch" and it.status == "start",
    "the first worker's drain": lambda it: it.step == "drain",
    "the first worker is done": lambda it: it.step == "switch" and it.status == "changed" and it.host.startswith("h"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_rollout_whose_controller_is_killed_is_resumed(
    cluster: Cluster, edited: Callable[[str, str], None], step: str
) -> None:
    another(edited)
    last = newest(cluster)
    with running(cluster, cluster.config_path, "apply", "--yes") as controller:
        killed = reaches(journal(cluster), last, STEPS[step])
        controller.kill()
    listed = cluster.run("rollouts", "resume", "--yes")
    assert listed.returncode == ExitCode.OK, listed.stdout + listed.stderr
    done = journal(cluster).get(killed.id)
    assert done.state == "done"
    wanted = {host: change.wanted for host, change in done.intent.hosts.items()}
    assert releases(cluster) | wanted == releases(cluster)
    is_well(cluster)


def test_a_rollout_whose_controller_is_killed_can_be_undone(
    cluster: Cluster, edited: Callable[[str, str], None]
) -> None:
    before = releases(cluster)
    another(edited)
    last = newest(cluster)
    with running(cluster, cluster.config_path, "apply", "--yes") as controller:
        killed = reaches(journal(cluster), last, STEPS["the first worker is done"])
        controller.kill()
    undone = cluster.run("rollouts", "undo", "--yes")
    assert undone.returncode == ExitCode.OK, undone.stdout + undone.stderr
    until(lambda: releases(cluster) == before, within=180, what="the hosts on what they ran before")
    assert journal(cluster).get(killed.id).state == "undone"
    is_well(cluster)


def test_a_release_that_does_not_start_is_taken_back_everywhere(
    cluster: Cluster, edited: Callable[[str, str], None]
) -> None:
    before = releases(cluster)
    broken = cluster.config_path.parent / "broken-engine"
    broken.write_text("#!/bin/sh\necho broken on purpose\nexit 1\n")
    broken.chmod(0o755)
    edited("num_ctx: 2048", "num_ctx: 1024")  # so that the head changes, and first
    edited("version: '0.17.4'\n    source: './ollama'", "version: '0.17.5'\n    source: './broken-engine'")
    edited("  packages:\n", "  rollout: {gate_timeout: 20s}\n  packages:\n")
    done = cluster.run("apply", "--yes", "--json")
    assert done.returncode == ExitCode.ROLLOUT, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [error["where"] for error in told["failed"]] == [told["plan"]["waves"][1]["hosts"][0]]
    assert "broken on purpose" in told["failed"][0]["what"]
    assert told["returned"] == [told["plan"]["waves"][0]["hosts"][0]]
    assert releases(cluster) == before
    shown = journal(cluster).get(told["rollout"])
    assert shown.state == "returned"
    is_well(cluster)


def test_a_rollback_brings_the_last_rollout_back_and_another_one_brings_it_again(
    cluster: Cluster, edited: Callable[[str, str], None]
) -> None:
    before = releases(cluster)
    another(edited)
    done = cluster.run("apply", "--yes")
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    after = releases(cluster)
    assert all(after[host] != before[host] for host in after)
    back = cluster.run("rollback", "--yes")
    assert back.returncode == ExitCode.OK, back.stdout + back.stderr
    assert releases(cluster) == before
    is_well(cluster)
    again = cluster.run("rollback", "--yes")
    assert again.returncode == ExitCode.OK, again.stdout + again.stderr
    assert releases(cluster) == after


@pytest.fixture
def elsewhere(cluster: Cluster, tmp_path: Path) -> Path:
    """The same cluster's file, for another controller: it knows nothing of this one's journal and lock."""
    for path in cluster.config_path.parent.iterdir():
        if path.is_file() or path.is_symlink():
            shutil.copy(path, tmp_path / path.name, follow_symlinks=False)
    kept = tmp_path / ".cluster-ai"
    kept.mkdir()
    own = cluster.config_path.parent / ".cluster-ai"
    shutil.copy(own / "vault-password", kept / "vault-password")
    (kept / "store").symlink_to((own / "store").resolve())
    return tmp_path / cluster.config_path.name


def test_a_second_controller_is_told_who_changes_the_cluster_and_what_it_does(
    cluster: Cluster, edited: Callable[[str, str], None], elsewhere: Path
) -> None:
    another(edited)
    shutil.copy(cluster.config_path, elsewhere)
    last = newest(cluster)
    with running(cluster, cluster.config_path, "apply", "--yes") as first:
        rollout = reaches(journal(cluster), last, STEPS["push"])
        second = subprocess.run(
            [sys.executable, "-m", "cluster_ai", "--config", str(elsewhere), "apply", "--yes"],
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=True,
            cwd=ROOT,
            timeout=300,
        )
        out, _ = first.communicate(timeout=600)
        assert first.returncode == ExitCode.OK, out
    assert second.returncode == ExitCode.LOCKED, second.stdout + second.stderr
    assert "another run changes this cluster" in second.stderr
    assert any(word in second.stderr for word in ("push to", "wave", "cluster-ai apply"))
    known: list[dict[str, Any]] = json.loads(
        subprocess.run(
            [sys.executable, "-m", "cluster_ai", "--config", str(elsewhere), "rollouts", "list", "--json"],
            text=True,
            capture_output=True,
            cwd=ROOT,
            timeout=300,
            check=True,
        ).stdout
    )
    assert (known[0]["id"], known[0]["state"]) == (rollout.id, "done")
