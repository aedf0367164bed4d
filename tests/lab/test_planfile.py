"""A plan that is kept in a file, on real hosts: it is done as it says, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_ai.errors import ExitCode
from tests.lab.conftest import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


def test_a_saved_plan_is_carried_out_once_and_refused_when_the_world_has_moved(
    cluster: Cluster, tmp_path: Path
) -> None:
    kept = str(tmp_path / "plan.json")
    before = cluster.config_path.read_text()
    cluster.config_path.write_text(before.replace("num_ctx: 2048", "num_ctx: 1792"))
    try:
        planned = cluster.run("plan", "--out", kept)
        assert planned.returncode == ExitCode.CHANGES, planned.stderr
        done = cluster.run("apply", kept, "--yes")
        assert done.returncode == ExitCode.OK, done.stderr
        again = cluster.run("apply", kept, "--yes")
        assert again.returncode == ExitCode.OK, again.stderr
        assert again.stdout.startswith("Nothing to do")

        cluster.config_path.write_text(before)
        other = cluster.run("apply", kept, "--yes")
        assert other.returncode == ExitCode.CHANGES, other.stdout
        assert "  - cluster.yaml is another one\n" in other.stderr
        assert "plan again: cluster-ai plan --out" in other.stderr

        ready = cluster.run("plan", "--out", kept)
        assert ready.returncode == ExitCode.CHANGES, ready.stderr
        host = cluster.hosts[-1]
        cluster.lab.run_on(host, "systemctl stop cluster-ai-front.service")
        moved = cluster.run("apply", kept, "--yes")
        cluster.lab.run_on(host, "systemctl start cluster-ai-front.service")
        assert moved.returncode == ExitCode.CHANGES, moved.stdout
        assert f"  - {host}: its units: " in moved.stderr
        assert cluster.run("plan").returncode == ExitCode.CHANGES  # so nothing was done
    finally:
        cluster.config_path.write_text(before)
        restored = cluster.run("apply", "--yes")
        assert restored.returncode == ExitCode.OK, restored.stderr
