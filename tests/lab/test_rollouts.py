"""Rollouts on real hosts: what is kept of them, what becomes of one that is cut off, and the ways back.

Each test leaves hosts that are what cluster.yaml says, whatever that is by then; the last one, what it said at first.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.errors import ExitCode
from cluster_ai.rollout.journal import Journal, Rollout, Step
from tests.lab.conftest import ROOT, Cluster, until
from tests.lab.releases import is_whole

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

Edit = Callable[[str, str], None]  # a regular expression, and what is to be there instead
NEXT = iter(range(1100, 2000))  # so that every test makes a release of its own


@pytest.fixture(scope="module")
def first(cluster: Cluster) -> Iterator[None]:
    before = cluster.config_path.read_text()
    yield
    cluster.config_path.write_text(before)
    cluster.run("apply", "--yes", check=True)


@pytest.fixture
def edited(cluster: Cluster, first: None) -> Iterator[Edit]:
    """Change cluster.yaml. What hosts don't run at the end is taken out of it again: it costs less than to go back."""
    before = cluster.config_path.read_text()

    def edit(old: str, new: str) -> None:
        text, count = re.subn(old, new, cluster.config_path.read_text())
        assert count == 1, text
        cluster.config_path.write_text(text)

    yield edit
    if cluster.run("plan").returncode != ExitCode.OK:
        cluster.config_path.write_text(before)
        restored = cluster.run("apply", "--yes")
        assert restored.returncode == ExitCode.OK, restored.stderr


def another(edited: Edit) -> None:
    """A change that gives every host another release, and restarts what serves on it: gateway and engines."""
    number = next(NEXT)
    edited(r"num_ctx: \d+", f"num_ctx: {number}")
    edited(r"version: '0.17.4'\n(    keep_alive: .*\n)?", f"version: '0.17.4'\n    keep_alive: '{number}s'\n")


def journal(cluster: Cluster) -> Journal:
    return Journal(cluster.config_path.parent / ".cluster-ai" / "rollouts.sqlite")


def releases(cluster: Cluster) -> dict[str, str]:
    return {host["host"]: host["release"] for host in cluster.json("status")["hosts"]}


def is_well(cluster: Cluster) -> None:
    """Every host runs a whole release, and every worker serves."""

    def all_serve() -> bool:
        gateway = cluster.json("status")["gateway"]
        return bool(gateway["active_workers"] == gateway["total_workers"])

    for host in cluster.hosts:  # after a switch that nobody leads any more, as soon as it has ended
        until(partial(is_whole, cluster, host), what=f"{host} runs a whole release")
    until(all_serve, what="the workers that were drained")


@contextlib.contextmanager
def running(cluster: Cluster, config: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "cluster_ai", "--config", str(config), *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        dies(process)
        process.communicate()


def dies(controller: subprocess.Popen[str]) -> None:
    """It and all that it has started, as when its machine dies."""
    if controller.poll() is None:
        os.killpg(controller.pid, signal.SIGKILL)


def reaches(book: Journal, before: str, there: Callable[[Step], bool]) -> Rollout:
    """Waits until a rollout that is newer than the one named has done a step."""
    found: list[Rollout] = []

    def look() -> bool:
        found[:] = [it for it in book.all(1) if it.id != before and any(map(there, it.steps))]
        return bool(found)

    until(look, within=900, what="the step in the journal")
    return found[0]


def newest(cluster: Cluster) -> str:
    kept = journal(cluster).all(1)
    return kept[0].id if kept else ""


STEPS = {
    "push": lambda it: it.step == "push" and it.status == "start",
    "the head's switch": lambda it: it.step == "switch" and it.status == "start",
    "a worker's switch": lambda it: it.step == "drain",
    "a worker is done": lambda it: it.step == "switch" and it.status == "changed" and it.host.startswith("h"),
}


@pytest.mark.parametrize("step", list(STEPS)[:-1])
def test_a_rollout_whose_controller_is_killed_is_resumed(cluster: Cluster, edited: Edit, step: str) -> None:
    another(edited)
    last = newest(cluster)
    with running(cluster, cluster.config_path, "apply", "--yes") as controller:
        killed = reaches(journal(cluster), last, STEPS[step])
        dies(controller)
    listed = cluster.run("rollouts", "resume", "--yes")
    assert listed.returncode == ExitCode.OK, listed.stdout + listed.stderr
    done = journal(cluster).get(killed.id)
    assert done.state == "done"
    wanted = {host: change.wanted for host, change in done.intent.hosts.items()}
    assert releases(cluster) | wanted == releases(cluster)
    is_well(cluster)


def test_a_rollout_whose_controller_is_killed_can_be_undone(cluster: Cluster, edited: Edit) -> None:
    before = releases(cluster)
    another(edited)
    last = newest(cluster)
    with running(cluster, cluster.config_path, "apply", "--yes") as controller:
        killed = reaches(journal(cluster), last, STEPS["a worker is done"])
        dies(controller)
    undone = cluster.run("rollouts", "undo", "--yes")
    assert undone.returncode == ExitCode.OK, undone.stdout + undone.stderr
    until(lambda: releases(cluster) == before, what="the hosts on what they ran before")
    assert journal(cluster).get(killed.id).state == "undone"
    is_well(cluster)


def test_a_release_that_does_not_start_is_taken_back_everywhere(cluster: Cluster, edited: Edit) -> None:
    before = releases(cluster)
    broken = cluster.config_path.parent / "broken-engine"
    broken.write_text("#!/bin/sh\necho broken on purpose\nexit 1\n")
    broken.chmod(0o755)
    edited(r"num_ctx: \d+", "num_ctx: 1024")  # so that the head changes, and first
    edited(r"source: './ollama'", "source: './broken-engine'")
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


def test_a_plan_that_was_kept_is_carried_out_or_refused_and_a_rollback_takes_back_what_it_did(
    cluster: Cluster, edited: Edit, tmp_path: Path
) -> None:
    kept = str(tmp_path / "plan.json")
    before = releases(cluster)
    another(edited)
    planned = cluster.run("plan", "--out", kept)
    assert planned.returncode == ExitCode.CHANGES, planned.stderr
    text = cluster.config_path.read_text()
    edited(r"num_ctx: \d+", "num_ctx: 1024")
    other = cluster.run("apply", kept, "--yes")
    assert other.returncode == ExitCode.CHANGES, other.stdout
    assert "  - cluster.yaml is another one\n" in other.stderr
    assert releases(cluster) == before

    cluster.config_path.write_text(text)
    done = cluster.run("apply", kept, "--yes")
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    after = releases(cluster)
    assert all(after[host] != before[host] for host in after)
    again = cluster.run("apply", kept, "--yes")
    assert again.returncode == ExitCode.OK, again.stderr
    assert again.stdout.startswith("Nothing to do")

    back = cluster.run("rollback", "--yes")
    assert back.returncode == ExitCode.OK, back.stdout + back.stderr
    assert releases(cluster) == before
    is_well(cluster)
    forth = cluster.run("rollback", "--yes")
    assert forth.returncode == ExitCode.OK, forth.stdout + forth.stderr
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
    cluster: Cluster, edited: Edit, elsewhere: Path
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
            timeout=900,
        )
        out, _ = first.communicate(timeout=900)
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
            timeout=900,
            check=True,
        ).stdout
    )
    assert (known[0]["id"], known[0]["state"]) == (rollout.id, "done")
