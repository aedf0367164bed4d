from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from cluster_ai.cli.main import main
from cluster_ai.config import hosts
from cluster_ai.errors import ExitCode
from cluster_ai.placement.place import place
from cluster_ai.provision import ssh
from cluster_ai.release import wheels
from cluster_ai.release.build import desired
from cluster_ai.release.model import HostFacts, Release
from cluster_ai.release.store import Store
from cluster_ai.rollout.scope import Scope
from tests.unit.release.conftest import Cluster

METADATA = "Metadata-Version: 2.4\nName: Small.Package\nVersion: 1.0\nLicense-Expression: MIT\n"


@pytest.fixture(autouse=True)
def fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of the package index: one small wheel."""

    def fetch(lock: Path, facts: HostFacts, store: Store, into: Path) -> list[Path]:
        path = into / "small_package-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(zipfile.ZipInfo("small_package-1.0.dist-info/METADATA"), METADATA)
        return [path]

    monkeypatch.setattr(wheels, "fetch", fetch)


def built(cluster: Cluster) -> dict[str, Release]:
    config = cluster.config()
    facts = {host.name: HostFacts("debian-12", "3.11", "x86_64") for host in hosts(config)}
    return desired(config, place(config), facts, Store.of(config))


def told(cluster: Cluster, of: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["--config", str(cluster.path), "release", "sbom", of]) == ExitCode.OK
    return capsys.readouterr().out


def test_a_release_tells_all_that_it_is_made_of_with_its_hashes(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    releases = built(cluster)
    release = next(r for r in releases.values() if r.blobs)
    text = told(cluster, release.host, capsys)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    components = {it["name"]: it for it in found["components"]}
    assert set(components) == {"cluster-ai", "ollama", "small", "small-package"}
    assert all(it["hashes"][0]["alg"] == "SHA-256" for it in components.values())
    assert components["small-package"]["purl"].startswith("pkg:pypi/small-package@1.0")
    assert components["small-package"]["licenses"] == [{"expression": "MIT"}]
    assert components["ollama"]["version"] == "0.17.4"
    manifest = json.loads(release.manifest)
    assert components["ollama"]["hashes"][0]["content"] == manifest["files"]["engine/bin/ollama"]["sha256"]
    assert components["small"]["hashes"][0]["content"] == release.blobs[0].sha256
    assert found["metadata"]["component"]["version"] == release.digest


def test_the_same_release_gives_the_same_bytes_wherever_it_was_built(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Cluster(tmp_path_factory.mktemp("other"))
    digests = {host: release.digest for host, release in built(cluster).items()}
    assert {host: release.digest for host, release in built(other).items()} == digests
    for host, digest in digests.items():
        assert told(cluster, digest, capsys) == told(other, digest[:12], capsys) == told(other, host, capsys)
    assert len({told(cluster, host, capsys) for host in digests}) == len(digests)


def test_a_release_that_is_not_here_is_named(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    built(cluster)
    assert main(["--config", str(cluster.path), "release", "sbom", "nobody"]) == ExitCode.CONFIG
    assert "no release with this digest" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="needs dpkg")
def test_the_packages_that_its_host_has_come_along_where_they_are_asked_for(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine is in the place of the host: what is run there is run here."""
    monkeypatch.setattr(ssh, "remote_command", lambda script, **_: script)
    monkeypatch.setattr(Scope, "argv", lambda self: {host.name: ("sh", "-c") for host in self.hosts})
    host = next(iter(built(cluster)))
    bare = json.loads(told(cluster, host, capsys))
    assert main(["--config", str(cluster.path), "release", "sbom", host, "--debian"]) == ExitCode.OK
    text = capsys.readouterr().out
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    own = {it["bom-ref"] for it in bare["components"]}
    packages = {it["name"]: it for it in found["components"] if it["bom-ref"] not in own}
    assert packages["dpkg"]["purl"].startswith("pkg:deb/debian/dpkg@")
    assert "distro=debian-" in packages["dpkg"]["purl"]
    assert found["serialNumber"] != bare["serialNumber"]
