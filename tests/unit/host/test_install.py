from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.host import install
from cluster_ai.host.units import UnitState

UNIT = "cluster-ai-engine.service"


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A unit of a release, linked and enabled as a switch does it."""
    (tmp_path / "release/units").mkdir(parents=True)
    (tmp_path / "release/units" / UNIT).write_text(f"[Service]\n[Install]\nWantedBy={layout.TARGET}\n")
    system = tmp_path / "system"
    (system / f"{layout.TARGET}.wants").mkdir(parents=True)
    (system / UNIT).symlink_to(layout.CURRENT / "units" / UNIT)
    (system / f"{layout.TARGET}.wants" / UNIT).symlink_to(f"../{UNIT}")
    return system


def links(system: Path) -> list[str]:
    return [str(fault) for fault in install.links(system.parent / "release", [UNIT], system)]


def test_units_that_are_linked_and_enabled_are_right(system: Path) -> None:
    assert links(system) == []


def test_a_masked_unit_one_that_is_disabled_and_one_that_is_too_many_are_told(system: Path) -> None:
    (system / UNIT).unlink()
    (system / UNIT).symlink_to("/dev/null")
    (system / f"{layout.TARGET}.wants" / UNIT).unlink()
    (system / "cluster-ai-old.service").symlink_to(layout.CURRENT / "units/cluster-ai-old.service")
    masked, disabled, extra = links(system)
    assert "doesn't lead to" in masked
    assert f"isn't started with {layout.TARGET}" in disabled
    assert extra == "cluster-ai-old.service: is a unit that the release doesn't have"


def test_of_a_template_an_instance_is_enabled(system: Path) -> None:
    name = "cluster-ai-gateway@.service"
    (system.parent / "release/units" / name).write_text(f"[Install]\nWantedBy={layout.TARGET}\n")
    (system / name).symlink_to(layout.CURRENT / "units" / name)
    wants = system / f"{layout.TARGET}.wants"
    assert [fault.what for fault in install.links(system.parent / "release", [UNIT, name], system)] == [name]
    (wants / "cluster-ai-gateway@12ab.service").symlink_to(f"../{name}")
    assert list(install.links(system.parent / "release", [UNIT, name], system)) == []


def test_drop_ins_of_our_units_are_told_by_their_path_and_those_of_others_are_not(tmp_path: Path) -> None:
    for unit in (UNIT, "ssh.service"):
        (tmp_path / f"{unit}.d").mkdir()
        (tmp_path / f"{unit}.d/more.conf").write_text("[Service]\nMemoryMax=1G\n")
    (fault,) = install.overrides([tmp_path, tmp_path / "absent"])
    assert (fault.what, fault.how) == (str(tmp_path / f"{UNIT}.d/more.conf"), f"changes what {UNIT} runs")


def test_a_unit_that_is_not_active_is_told_as_systemd_says_it() -> None:
    states = {"a.service": UnitState("active", "running", 0), "b.service": UnitState("failed", "failed", 3)}
    assert [str(fault) for fault in install.states(states)] == ["b.service: is failed (failed)"]


@pytest.mark.skipif(os.geteuid() != 0, reason="root's files are only root's to make")
def test_credentials_that_others_may_read_or_own_are_told(tmp_path: Path) -> None:
    for name, mode in (("cert.pem", 0o600), ("key.pem", 0o640), ("token", 0o600)):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(mode)
    os.chown(tmp_path / "token", 1, 1)
    found = {Path(fault.what).name: fault.how for fault in install.credentials(tmp_path, tmp_path / "none")}
    assert found == {
        "key.pem": "has mode 0640 and owner 0:0, not 0600 and root's",
        "token": "has mode 0600 and owner 1:1, not 0600 and root's",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="root's files are only root's to make")
def test_files_for_tls_are_for_a_group_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "tls-1").mkdir()
    (tmp_path / "tls").symlink_to("tls-1")
    for name, mode in (("cert.pem", 0o640), ("key.pem", 0o644)):
        (tmp_path / "tls" / name).write_text("")
        (tmp_path / "tls" / name).chmod(mode)
    (fault,) = install.credentials(tmp_path / "none", tmp_path / "tls", "root")
    assert fault.what == str(tmp_path / "tls/key.pem")
    assert "not 0640 and root's and of group root" in fault.how
