"""What hosts are told where each may have several Dask worker processes."""

from __future__ import annotations

from cluster_ai import layout
from cluster_ai.config import hosts
from cluster_ai.config.model import Config
from cluster_ai.release import processes
from cluster_ai.release.units import units
from cluster_ai.settings import HostProcesses, Processes
from tests.unit.release.conftest import Cluster

ON = "  scaling: {processes: {max: 4, cool_down: 30s, dry_run: true}}\n  engine:\n"
HALF = 4 * 10**9


def unit(config: Config, host: int, name: str) -> str:
    return next(it.text for it in units(config, hosts(config)[host]) if it.name == name)


def test_without_them_nobody_is_told_anything(cluster: Cluster) -> None:
    config = cluster.config()
    assert processes.of_scheduler(config) is None
    assert processes.of_worker(config, config.workers[0]) is None
    assert "scheduler.json" not in unit(config, 0, layout.SCHEDULER)
    assert "CPU=2" in unit(config, 1, layout.WORKER)


def test_all_of_a_host_have_together_what_it_has(cluster: Cluster) -> None:
    """Four are allowed; the hosts have two cores."""
    config = cluster.config("  engine:\n", ON)
    told = processes.of_scheduler(config)
    assert told is not None
    assert told.processes.hosts == tuple(HostProcesses(name, 2, 1, HALF) for name in "abc")
    assert (told.processes.min, told.processes.cool_down, told.processes.dry_run) == (1, 30.0, True)
    assert processes.of_worker(config, config.workers[1]) == Processes(
        *(2, 1, HALF, "tls://b.cluster.test", "tls://0.0.0.0", 8790, "8800:8809")
    )
    first = unit(config, 1, layout.WORKER)
    assert f"--memory-limit {HALF} --resources GPU=1,MEMORY={HALF},CPU=1,ENGINE=1 " in first
    assert f"MemoryMax={2 * HALF}" in first  # of the unit, and so of all
    assert "CLUSTER_AI_SCHEDULER_SETTINGS=etc/scheduler.json" in unit(config, 0, layout.SCHEDULER)
