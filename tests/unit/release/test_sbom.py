from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from cluster_ai.cli.main import main
from cluster_ai.config import hosts
from cluster_ai.errors import ExitCode
from cluster_ai.placement.place import place
from cluster_ai.release import wheels
from cluster_ai.release.build import desired
from cluster_ai.release.model import HostFacts, Release
from cluster_ai.release.store import Store
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
