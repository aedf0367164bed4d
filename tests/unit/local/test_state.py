from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from cluster_ai.local import state
from cluster_ai.local.model import MARKER, Paths

STATE = state.State(
    pid=os.getpid(),
    starttime=state.starttime(os.getpid()) or 0,
    phase="up",
    gateway="http://127.0.0.1:1",
    dashboard=None,
    prometheus=None,
    open_webui=None,
    dask="tls://127.0.0.1:2",
    dask_dashboard="http://127.0.0.1:3",
    token=None,
    engine="embedded",
    workers=("worker-1",),
    lacks=("no Prometheus",),
)


def test_a_state_reads_back_as_it_was_written(tmp_path: Path) -> None:
    state.write(Paths(tmp_path), STATE)
    assert state.read(Paths(tmp_path)) == STATE


def test_a_pid_that_another_process_has_now_is_not_taken_for_ours(tmp_path: Path) -> None:
    state.write(Paths(tmp_path), replace(STATE, starttime=STATE.starttime + 1))
    assert state.read(Paths(tmp_path)) is None


def test_no_state_and_a_broken_one_mean_that_nothing_is_known(tmp_path: Path) -> None:
    assert state.read(Paths(tmp_path)) is None
    Paths(tmp_path).state.write_text("{")
    assert state.read(Paths(tmp_path)) is None


def test_the_lock_is_one_clusters_alone(tmp_path: Path) -> None:
    first = state.try_lock(Paths(tmp_path))
    assert first is not None
    assert state.try_lock(Paths(tmp_path)) is None
    os.close(first)
    again = state.try_lock(Paths(tmp_path))
    assert again is not None
    os.close(again)


def test_only_processes_that_carry_the_root_are_found_and_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]
    roots = (tmp_path / "a", tmp_path / "b")
    ours, others = (
        subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, MARKER: str(root)}) for root in roots
    )
    with ours, others:
        assert state.processes(roots[0]) == (ours.pid,)
        assert state.processes(tmp_path) == ()
        state.kill_all(roots[0])
        assert ours.wait(60) == -9
        assert others.poll() is None
