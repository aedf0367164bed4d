from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster_ai.errors import ExitCode, LockedError
from cluster_ai.rollout.lock import hold

HOLDER = """
import sys
from pathlib import Path
from cluster_ai.rollout.lock import hold
with hold(Path(sys.argv[1]), "cluster-ai apply"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / ".cluster-ai" / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(LockedError, match=f"`cluster-ai apply` of .*process {holder.pid}") as caught,
            hold(path, "x"),
        ):
            pass
        assert caught.value.exit_code == ExitCode.LOCKED
        holder.kill()
    with hold(path, "after a holder that was killed"):
        pass


def test_a_lock_is_free_again_afterwards_however_it_ended(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path / "lock", "x"):
        _ = 1 / 0
    with hold(tmp_path / "lock", "x"):
        pass


def test_a_lock_file_with_anything_in_it_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("what is this")
    with (
        hold(tmp_path / "lock", "x"),
        pytest.raises(LockedError, match="process"),
        hold(tmp_path / "lock", "y"),
    ):
        pass
