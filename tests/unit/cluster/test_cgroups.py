"""Where no cgroup is delegated, and why; tests/integration/test_isolation.py has real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_ai.cluster.cgroups import NoDelegationError, take


def refused(folder: Path, own: str, *, delegated: bool = True) -> str:
    (folder / "own").write_text(own)
    with pytest.raises(NoDelegationError) as told:
        take(delegated=delegated, cgroups=folder / "cgroup", own=folder / "own")
    return str(told.value)


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    group = tmp_path / "cgroup" / "system.slice" / "a.service"
    group.mkdir(parents=True)
    (tmp_path / "cgroup" / "cgroup.controllers").write_text("cpu io memory pids\n")
    return group


def test_what_is_not_delegated_stays_as_it_is(tmp_path: Path, unified: Path) -> None:
    assert "doesn't run as a service" in refused(tmp_path, "0::/system.slice/a.service\n", delegated=False)
    assert list(unified.iterdir()) == []


def test_version_1_is_told(tmp_path: Path) -> None:
    (tmp_path / "cgroup").mkdir()
    told = refused(tmp_path, "4:memory:/a.service\n1:name=systemd:/a.service\n0::/a.service\n")
    assert told == "the host has cgroups of version 1"


def test_controllers_that_are_lacking_are_named(tmp_path: Path, unified: Path) -> None:
    (unified / "cgroup.controllers").write_text("cpu pids\n")
    assert refused(tmp_path, "0::/system.slice/a.service\n").endswith("has no controllers memory")
    assert refused(tmp_path, "0::/system.slice/a.service/worker\n").endswith("has no controllers memory")


def test_a_group_that_is_not_there_is_told(tmp_path: Path, unified: Path) -> None:
    assert "can't be divided" in refused(tmp_path, "0::/../elsewhere.service\n")
