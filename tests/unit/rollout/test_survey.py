"""From cluster.yaml and what hosts answer to the plan, with real releases; hosts are what a stand-in for ssh prints."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.cli.main import main
from cluster_ai.config.model import Config, hosts
from cluster_ai.errors import ConfigError, ExitCode
from cluster_ai.placement.place import place
from cluster_ai.provision import host_layer
from cluster_ai.release import wheels
from cluster_ai.release.build import desired
from cluster_ai.release.model import HostFacts, Release
from cluster_ai.release.store import Store
from cluster_ai.release.units import units
from cluster_ai.rollout import credentials, survey
from cluster_ai.rollout.changes import changes, sentence
from cluster_ai.rollout.observe import Observed, parse
from cluster_ai.rollout.plan import Plan
from cluster_ai.rollout.scope import Scope
from tests.unit.release.conftest import Cluster

FACTS = HostFacts("debian-12", "3.11", "x86_64")
NEWER = ("version: '0.17.4'\n    source: './ollama'", "version: '0.18.0'\n    source: './newer'")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """One small wheel instead of the package index, and two engines."""

    def fetch(lock: Path, facts: HostFacts, store: Store, into: Path) -> list[Path]:
        with zipfile.ZipFile(into / "x-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(zipfile.ZipInfo("x.py"), f"NAME = {lock.stem!r}\n")
        return [into / "x-1-py3-none-any.whl"]

    monkeypatch.setattr(wheels, "fetch", fetch)
    made = Cluster(tmp_path)
    (tmp_path / "newer").write_bytes(b"#!/bin/sh\necho newer\n")
    return made


def releases(config: Config) -> dict[str, Release]:
    return desired(config, place(config), {host.name: FACTS for host in hosts(config)}, Store.of(config))


def answers(config: Config, running: Mapping[str, Release]) -> dict[str, str]:
    """What each host says, with these releases and all else as it shall be."""
    told = {}
    for host in hosts(config):
        release = running[host.name]
        made = credentials.files(config, host)
        sums = credentials.of_host(credentials.sums(config), host)
        told[host.name] = "\n".join(
            [
                *("cluster-ai-probe=1", "os_id=debian", "os_version=12", "python=Python 3.11.2", "arch=x86_64"),
                *("clock=1795500000", f"{layout.CURRENT}=releases/{release.digest}"),
                *(f"{layout.PARTS}/{part.sha256}=" for part in release.parts),
                *(f"{layout.BLOBS}/{blob.sha256}=" for blob in release.blobs),
                f"stamp={host_layer.stamp(config, host, FACTS.distribution)}",
                *made[f"{layout.IN_TLS}{layout.CERT}"].splitlines(),
                *(f"{digest}  {path_of(name)}" for name, digest in sums.items()),
                *(f"{unit.name} loaded active running x" for unit in units(config, host)),
                "cluster-ai-probe=end\n",
            ]
        )
    return told


def path_of(name: str) -> str:
    folder = layout.TLS if name.startswith(layout.IN_TLS) else layout.CREDENTIALS
    return str(folder / name.removeprefix(layout.IN_TLS))


def planned(config: Config, told: Mapping[str, str]) -> Plan:
    seen = {host: parse(host, text) for host, text in told.items()}
    return survey.take(Scope(config), place(config), seen).plan


def test_hosts_that_run_what_they_shall_need_nothing(cluster: Cluster) -> None:
    config = cluster.config()
    assert not planned(config, answers(config, releases(config))).changes


def test_another_engine_is_told_with_both_versions_and_all_that_it_restarts(cluster: Cluster) -> None:
    before = releases(cluster.config())
    config = cluster.config(*NEWER)
    plan = planned(config, answers(config, before))
    lines = [sentence(change) for change in changes(plan.hosts)]
    assert lines[0] == "engine 0.17.4 -> 0.18.0: restarts Ollama on 3 hosts (a, b, c)"
    assert [host.host for host in plan.hosts if host.changes] == ["a", "b", "c"]


def test_another_file_of_the_same_version_is_told_as_that(cluster: Cluster) -> None:
    before = releases(cluster.config())
    config = cluster.config("source: './ollama'", "source: './newer'")
    plan = planned(config, answers(config, before))
    assert [sentence(change) for change in changes(plan.hosts)] == [
        "engine 0.17.4, from another file: restarts Ollama on 3 hosts (a, b, c)"
    ]


def test_a_plan_in_a_file_is_refused_by_the_command_when_a_host_runs_something_else(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = answers(cluster.config(), releases(cluster.config()))
    config = cluster.config(*NEWER)
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin/ssh"
    ssh.write_text(f'#!/bin/sh\nfor word; do address=$last last=$word; done\nexec cat "{tmp_path}/answer-$address"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def host_says(told: Mapping[str, str]) -> None:
        for host in hosts(config):
            (tmp_path / f"answer-{host.address}").write_text(told[host.name])

    kept = str(tmp_path / "plan.json")
    arguments = ["--config", str(config.path)]
    host_says(old)
    assert main([*arguments, "plan", "--out", kept]) == ExitCode.CHANGES
    host_says({**old, "b": old["b"].replace("cluster-ai-front.service loaded active", "x loaded active")})
    assert main([*arguments, "apply", kept, "--yes"]) == ExitCode.CHANGES
    assert "  - b: its units: " in capsys.readouterr().err

    new = answers(config, releases(config))
    host_says(new)
    assert main([*arguments, "apply", kept, "--yes"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("Nothing to do")
    host_says({**new, "c": old["c"]})
    assert main([*arguments, "apply", kept, "--yes"]) == ExitCode.CHANGES
    told = capsys.readouterr().err
    assert "  - a: runs release " in told
    assert "  - c: " not in told


def lose_secrets(folder: Path) -> None:
    """As in a clone of the repository into which secrets.yaml was never committed."""
    (folder / "secrets.yaml").unlink()
    for path in (folder / ".cluster-ai").iterdir():
        if path.is_file():
            path.unlink()


def test_a_cluster_whose_secrets_are_elsewhere_gets_no_new_ca(cluster: Cluster, tmp_path: Path) -> None:
    config = cluster.config()
    told = answers(config, releases(config))
    lose_secrets(tmp_path)
    with pytest.raises(ConfigError) as refused:
        planned(config, told)
    assert "certificates of cluster 'test' are on a and 2 more hosts" in refused.value.what
    assert refused.value.where == str(tmp_path / "secrets.yaml")
    assert "bring it from" in refused.value.remedy
    assert not (tmp_path / "secrets.yaml").exists()


def test_the_head_tells_of_them_though_only_a_new_worker_is_meant(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster.config()
    told = answers(config, releases(config))
    lose_secrets(tmp_path)
    monkeypatch.setattr(Scope, "probe", lambda self, names: Answered({it: parse(it, told[it]) for it in names}))
    with pytest.raises(ConfigError, match="are on a:"):
        survey.take(Scope(config, ("c",)), place(config), {"c": parse("c", bare(told["c"]))})


def test_bare_hosts_and_those_of_another_cluster_are_a_first_run(cluster: Cluster, tmp_path: Path) -> None:
    config = cluster.config()
    told = answers(config, releases(config))
    lose_secrets(tmp_path)
    assert planned(config, {host: bare(text) for host, text in told.items()}).changes
    assert planned(cluster.config("name: 'test'", "name: 'other'"), told).changes
    assert not (tmp_path / "secrets.yaml").exists()


def bare(answer: str) -> str:
    """What a host says that was never in a cluster."""
    kept = ("cluster-ai-probe", "os_", "python=", "arch=", "clock=")
    return "\n".join(line for line in answer.splitlines() if line.startswith(kept))


@dataclass(frozen=True)
class Answered:
    """A probe that has its answers."""

    seen: Mapping[str, Observed]

    def results(self) -> Mapping[str, Observed]:
        return self.seen
