from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cluster_ai.host import packages


def test_a_package_that_is_gone_and_one_of_another_version_are_told_for_the_host_layer() -> None:
    found = list(
        packages.compare({"nginx": "1.22", "rsync": "3.2", "python3": "3.11"}, {"rsync": "3.3", "python3": "3.11"})
    )
    assert [str(fault) for fault in found] == [
        "nginx: is not installed",
        "rsync: is 3.3, was 3.2 when the host layer ran",
    ]
    assert {fault.repair for fault in found} == {"host layer"}


def test_lines_that_are_no_name_and_version_are_no_packages() -> None:
    assert packages.read("nginx 1.22\n\nremoved \nodd line here\n") == {"nginx": "1.22"}


def test_nothing_is_missed_where_it_is_not_known_what_was_installed(tmp_path: Path) -> None:
    assert packages.faults(tmp_path / "none") == []


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="no Debian here")
def test_dpkg_is_asked_for_what_is_installed_though_it_does_not_know_every_name(tmp_path: Path) -> None:
    there = packages.installed(("dpkg", "no-such-package-anywhere"))
    assert set(there) == {"dpkg"}
    record = tmp_path / "packages"
    record.write_text(f"dpkg {there['dpkg']}\nno-such-package-anywhere 1.0\n")
    assert [str(fault) for fault in packages.faults(record)] == ["no-such-package-anywhere: is not installed"]
