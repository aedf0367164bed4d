"""Tasks in cgroups of their own, by a real worker in a real cgroup: what takes too much ends, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.cluster.cgroups import CGROUPS, CONTROLLERS, LEAF
from tests.rig.processes import until
from tests.rig.tasks import Site, site

pytestmark = pytest.mark.integration
MIB = 1 << 20


@pytest.fixture
def group() -> Iterator[Path]:
    """As systemd's Delegate= leaves one, but that everything here is root's."""
    if os.geteuid():
        pytest.skip("only root can make cgroups")
    try:
        there = set((CGROUPS / "cgroup.controllers").read_text().split())
    except OSError:
        pytest.skip("this machine has cgroups of version 1")
    if lacking := CONTROLLERS - there:
        pytest.skip(f"the cgroup that this machine shows has no controllers {', '.join(sorted(lacking))}")
    made = CGROUPS / f"cluster-ai-test-{os.getpid()}"
    try:
        (CGROUPS / "cgroup.subtree_control").write_text("+cpu +memory")
        made.mkdir()
    except OSError as e:
        pytest.skip(f"no cgroup can be made here: {e}")
    try:
        yield made
    finally:
        (made / "cgroup.kill").write_text("1")
        until(lambda: "populated 0" in (made / "cgroup.events").read_text(), what="the cgroup is empty")
        for folder in (*made.glob("*/"), made):
            with suppress(FileNotFoundError):
                folder.rmdir()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, "http://127.0.0.1:9") as found:  # no engine: no task here asks one
        yield found


def task(function: str, memory: int = 0, **arguments: Any) -> dict[str, Any]:
    return {"kind": "custom", "memory": memory, "payload": {"function": function, "arguments": arguments}}


def groups(root: Path) -> list[Path]:
    return [it for it in root.glob("*/") if it.name != LEAF]


def test_a_task_that_takes_more_memory_than_it_said_ends_alone_and_the_error_names_its_limit(
    here: Site, tmp_path: Path, group: Path
) -> None:
    go = tmp_path / "go"
    with here.scheduler(), here.worker("w1", cpu=2, group=group) as worker, here.manager("w1"):
        (other,) = here.submit(
            {**task("note", 200 * MIB, path=str(tmp_path / "n"), text="there", until=str(go)), "cpu": 1}
        )
        until(lambda: (tmp_path / "n").exists(), what="the other task runs")
        (own,) = groups(group)
        assert (own / "cpu.max").read_text() == "100000 100000\n"
        assert (own / "memory.max").read_text() == f"{200 * MIB}\n"
        assert len((own / "cgroup.procs").read_text().split()) == 1

        (much,) = here.submit(task("eat", 100 * MIB, size=300 * MIB))
        (by_a_child,) = here.submit(task("eat", 100 * MIB, size=300 * MIB, apart=True))
        (enough,) = here.submit(task("eat", 400 * MIB, size=300 * MIB))
        until(lambda: here.ended(much, by_a_child, enough))
        error = "RuntimeError: eat: killed, since it took more memory than its limit, 105 MB (`memory`)"
        assert [here.task(it)["error"] for it in (much, by_a_child)] == [error] * 2
        assert here.ask("GET", f"/tasks/{enough}/result")["result"] == 300 * MIB

        assert worker.alive()
        assert here.task(other)["state"] == "sent"
        go.touch()
        until(lambda: here.ended(other))
        assert here.task(other)["state"] == "done"
        until(lambda: not groups(group), what="no task's cgroup is left")


def test_a_worker_that_was_killed_leaves_nothing_that_its_successor_does_not_remove(
    here: Site, tmp_path: Path, group: Path
) -> None:
    with here.scheduler(), here.manager("w1"):
        with here.worker("w1", group=group) as worker:
            here.submit(task("note", path=str(tmp_path / "n"), text="there", until=str(tmp_path / "never")))
            until(lambda: (tmp_path / "n").exists(), what="the task runs")
            (left,) = groups(group)
            worker.stop(kill=True)
        assert left.is_dir()
        with here.worker("w1", group=group):
            until(lambda: not left.exists(), what="what was left is gone")
