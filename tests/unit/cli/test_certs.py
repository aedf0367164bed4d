"""`cluster-ai certs`, where no host answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster_ai.cli.main import main
from cluster_ai.config.load import load
from cluster_ai.errors import ExitCode
from cluster_ai.security import ca
from cluster_ai.security.credentials import load_or_create
from cluster_ai.security.password import VARIABLE
from cluster_ai.security.vault import Vault

CLUSTER = """\
version: '1.0'
cluster:
  name: 'test'
  scheduler: {host: '127.0.0.1'}
  workers:
    - {name: 'w', host: '127.0.0.1', resources: {cpu: 2, memory: '8GB'}}
  models: []
  ssh: {port: 1, known_hosts: './known_hosts'}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, "test")
    (tmp_path / "known_hosts").touch()
    path = tmp_path / "cluster.yaml"
    path.write_text(CLUSTER)
    load_or_create(load(path))
    return str(path)


@pytest.mark.parametrize("words", [["certs", "ca"], ["certs", "show"], ["status", "--token"], ["status"]])
def test_who_only_looks_where_the_secrets_were_not_brought_makes_no_other_ca(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    (tmp_path / "secrets.yaml").unlink()
    assert main(["--config", config, *words]) == ExitCode.CONFIG
    said = capsys.readouterr().err
    assert "secrets.yaml" in said
    assert "applied from" in said
    assert not (tmp_path / "secrets.yaml").exists()


def test_the_roots_that_count_are_printed_for_programs_outside(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", config, "certs", "ca"]) == ExitCode.OK
    printed = capsys.readouterr().out
    assert printed == Vault(tmp_path).read()["root_cert"]
    assert ca.common_name(printed.encode()) == "Cluster AI root of test"


def test_what_is_known_here_is_shown_though_no_host_answers(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", config, "certs", "show", "--json"]) == ExitCode.HOST
    told = json.loads(capsys.readouterr().out)
    assert [it["use"] for it in told["authorities"]] == ["root", "issuing CA, on the head host"]
    ((host),) = told["hosts"]
    assert (host["host"], host["end"], host["current"]) == ("w", None, False)
    assert host["note"]


def test_nothing_changes_where_no_host_can_be_told(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", config, "certs", "ca"]) == ExitCode.OK
    before = Vault(tmp_path).read()
    for words in (["rotate", "root"], ["rotate", "issuing"], ["retire"]):
        assert main(["--config", config, "certs", *words]) == ExitCode.HOST
    assert "w" in capsys.readouterr().err
    assert Vault(tmp_path).read() == before
