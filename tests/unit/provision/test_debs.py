"""Bundles of .deb files: what a host lacks, where it comes from, and that a bundle is whole and the same each time."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.errors import BundleError, HostError
from cluster_ai.provision import debs, host_layer
from cluster_ai.provision.apt import Seen, Source
from tests.unit.provision.test_host_layer import CONFIG

from .test_host_layer import HEAD, ONE

STATUS = b"""\
Package: python3
Status: install ok installed
Version: 3.11
Description: interactive
 Package: not-a-package
 Status: install ok installed

Package: nginx
Status: deinstall ok config-files
Version: 1.22

Package: held
Status: hold ok installed
"""
OWN = (
    Source("http://own/debian/", "bookworm", ("main",)),
    Source("http://own/debian/", "bookworm-updates", ("main",)),
    Source("http://own/security/", "bookworm-security", ("main",)),
    Source("http://other/tool/", "bookworm-tool", ("main",)),
    Source("http://other/node/", "nodistro", ("main",)),
)


def seen(distribution: str = "debian", codename: str = "bookworm", cards: str = "", driver: bool = False) -> Seen:
    return Seen(distribution, codename, "amd64", "6.1.0-37-amd64", cards, driver, STATUS)


def test_an_answer_is_read() -> None:
    head = b"id=debian version=12 codename=bookworm arch=amd64 kernel=6.1.0-37-amd64\n"
    card = b"0000:01:00.0 VGA compatible controller [0300]: NVIDIA [10de:2204]\n"
    read = debs.parse("h1", head + card + b"driver\n\n" + STATUS)
    assert read == seen(cards=card.decode().strip(), driver=True)
    assert read.group == "debian-bookworm-amd64"


@pytest.mark.parametrize(
    "answer", [b"", b"\n\n", b"id=fedora version=40 codename= arch= kernel=6\n\n", b"id=arch version= \n\n"]
)
def test_a_host_of_another_distribution_is_refused(answer: bytes) -> None:
    with pytest.raises(HostError, match="not supported"):
        debs.parse("h1", answer)


def test_only_what_is_installed_counts() -> None:
    assert debs.installed(STATUS) == {"python3", "held"}


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9+.-]{1,10}", fullmatch=True), st.booleans()))
def test_every_installed_package_is_found(packages: dict[str, bool]) -> None:
    stanzas = [
        f"Package: {name}\nStatus: {'install ok installed' if there else 'deinstall ok config-files'}\nVersion: 1\n"
        for name, there in packages.items()
    ]
    assert debs.installed("\n".join(stanzas).encode()) == {name for name, there in packages.items() if there}


@given(st.binary())
def test_any_status_is_read(status: bytes) -> None:
    assert isinstance(debs.installed(status), frozenset)


def test_the_driver_is_brought_to_a_worker_with_a_card_and_none_that_works() -> None:
    card = "0000:01:00.0 VGA compatible controller [0300]: NVIDIA [10de:2204]"
    with_card = debs.wanted_packages(CONFIG, ONE, seen(cards=card))
    assert {"nvidia-kernel-dkms", "linux-headers-6.1.0-37-amd64"} <= set(with_card)
    assert debs.wanted_packages(CONFIG, ONE, seen(cards=card, driver=True)) == host_layer.packages(CONFIG, ["worker"])
    assert debs.wanted_packages(CONFIG, ONE, seen()) == host_layer.packages(CONFIG, ["worker"])
    assert debs.wanted_packages(CONFIG, HEAD, seen(cards=card)) == host_layer.packages(CONFIG, ["head"])


def test_sources_are_those_of_this_machine_without_strangers() -> None:
    found = debs.sources(seen(), None, OWN, "bookworm", "debian")
    assert [(source.uri, source.suite) for source in found] == [
        ("http://own/debian/", "bookworm"),
        ("http://own/debian/", "bookworm-updates"),
        ("http://own/security/", "bookworm-security"),
    ]
    assert "non-free" in found[0].components


def test_sources_are_put_to_the_hosts_release() -> None:
    found = debs.sources(seen(codename="trixie"), None, OWN, "bookworm", "debian")
    assert [source.suite for source in found] == ["trixie", "trixie-updates", "trixie-security"]


def test_a_mirror_comes_before_this_machines_sources() -> None:
    found = debs.sources(seen("ubuntu", "noble"), "http://mirror/ubuntu", OWN, "bookworm", "debian")
    assert {source.uri for source in found} == {"http://mirror/ubuntu"}
    assert [source.suite for source in found] == ["noble", "noble-updates", "noble-security"]


def test_another_distribution_without_a_mirror_is_refused_with_a_remedy() -> None:
    with pytest.raises(BundleError, match=r"packages\.mirror"):
        debs.sources(seen("ubuntu", "noble"), None, OWN, "bookworm", "debian")


def test_a_machine_without_apt_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BundleError, match="apt-get and dpkg-deb"):
        debs.require_apt()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    if not shutil.which("dpkg-deb"):
        pytest.skip("no dpkg-deb on this machine")
    folder = tmp_path_factory.mktemp("debs")
    for name in ("a", "b"):
        control = folder / name / "DEBIAN" / "control"
        control.parent.mkdir(parents=True)
        control.write_text(
            f"Package: {name}\nVersion: 1:2.0\nArchitecture: all\nMaintainer: T <t@t>\nDescription: {name}\n more\n"
        )
        subprocess.run(["dpkg-deb", "--build", folder / name, folder / f"{name}_1%3a2.0_all.deb"], check=True)
    return sorted(folder.glob("*.deb"))


def test_a_bundle_is_a_repository_whose_sums_are_right_and_whose_name_is_the_sum_of_these(
    packages: list[Path], tmp_path: Path
) -> None:
    folder = debs._make(packages, tmp_path / "bundles")
    with tarfile.open(folder / "debs.tar") as tar:
        tar.extractall(tmp_path / "out", filter="data")
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "out", check=False)
    assert done.returncode == 0
    assert debs._sha256(tmp_path / "out" / "SHA256SUMS") == folder.name
    index = (tmp_path / "out" / "Packages").read_text()
    assert index.count("Filename: ./") == 2
    assert "Filename: ./a_1%3a2.0_all.deb\n" in index
    assert "Description: a\n more\n" in index


def test_the_same_packages_are_the_same_bundle_and_a_broken_one_is_known(packages: list[Path], tmp_path: Path) -> None:
    one, two = debs._make(packages, tmp_path / "one"), debs._make(packages, tmp_path / "two")
    assert one.name == two.name
    assert (one / "debs.tar").read_bytes() == (two / "debs.tar").read_bytes()
    assert debs._whole(one)
    (one / "debs.tar").write_bytes(b"cut")
    assert not debs._whole(one)
    assert not debs._whole(tmp_path / "none")
