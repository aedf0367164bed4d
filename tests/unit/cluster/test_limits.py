from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from cluster_ai.cluster.limits import Limits, detect

GIB = 1 << 30


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = psutil.virtual_memory()._replace(total=64 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


def found(folder: Path, own: str, files: dict[str, str]) -> Limits:
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (folder / "own").write_text(own + "\n")
    return detect(folder / "cgroup", folder / "own")


@pytest.mark.parametrize(
    ("own", "files", "limits"),
    [
        ("0::/", {}, Limits(16.0, 64 * GIB)),
        ("0::/a/b", {"a/b/memory.max": "max", "a/b/cpu.max": "max 100000"}, Limits(16.0, 64 * GIB)),
        ("0::/a/b", {"a/b/memory.max": str(8 * GIB), "a/b/cpu.max": "250000 100000"}, Limits(2.5, 8 * GIB)),
        ("0::/a/b", {"a/b/memory.max": str(8 * GIB), "a/memory.max": str(GIB)}, Limits(16.0, GIB)),
        ("0::/elsewhere/b", {"memory.max": str(GIB), "cpu.max": "100000 100000"}, Limits(1.0, GIB)),
        (
            "4:memory:/x\n2:cpu,cpuacct:/x\n1:name=systemd:/",
            {
                "memory/x/memory.limit_in_bytes": str(4 * GIB),
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu,cpuacct/x/cpu.cfs_quota_us": "150000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
            },
            Limits(1.5, 4 * GIB),
        ),
        ("3:memory:/\n0::/x", {"unified/x/memory.max": str(GIB), "memory/cgroup.procs": ""}, Limits(16.0, GIB)),
    ],
    ids=["none", "unlimited", "v2", "outer", "namespace", "v1", "hybrid"],
)
def test_the_tightest_limit_holds(tmp_path: Path, own: str, files: dict[str, str], limits: Limits) -> None:
    assert found(tmp_path, own, files) == limits


def test_a_system_without_cgroups_has_the_hosts(tmp_path: Path) -> None:
    assert detect(tmp_path, tmp_path / "none") == Limits(16.0, 64 * GIB)
