from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from cluster_ai.cli.main import main
from cluster_ai.errors import ExitCode

TEXT = """\
version: '1.0'
cluster:
  name: 'test'
  scheduler: {host: '127.0.0.9'}
  workers:
    - name: 'w1'
      resources: {cpu: 1, memory: '2GB'}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "cluster.yaml"
    path.write_text(TEXT)
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--apply"], "say both"),
        (["--add", "--apply", "--yes", "--json"], "cluster-ai apply --json"),
        (["--add"], "say --yes"),
        (["--network", "10.0.0.300"], "is no network"),
        (["--network", "8.8.8.0/24"], "is no private network"),
        (["--network", "10.0.0.0/8"], "has 16777216 addresses"),
    ],
)
def test_a_search_that_is_not_meant_so_is_refused_before_anything_is_sent(
    arguments: list[str], why: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["discover", "-c", config, *arguments]) == ExitCode.USAGE
    assert why in capsys.readouterr().err


def test_a_token_is_made_shown_without_its_secret_and_revoked(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "join.py"
    assert main(["join-token", "create", "-c", config, "--lifetime", "5m", "--script", str(script)]) == ExitCode.OK
    line = capsys.readouterr().out.split()
    assert line[:2] == ["python3", "join.py"]
    name, secret, cluster = line[2].split("-")
    assert len(cluster) == 16
    compile(script.read_text(), "join.py", "exec")
    assert stat.S_IMODE((tmp_path / ".cluster-ai" / "join-tokens.sqlite").stat().st_mode) == 0o600

    assert main(["join-token", "list", "-c", config, "--json"]) == ExitCode.OK
    text = capsys.readouterr().out
    assert secret not in text
    assert [(it["id"], it["state"]) for it in json.loads(text)] == [(name, "valid")]

    assert main(["join-token", "revoke", name, "-c", config]) == ExitCode.OK
    assert main(["join-token", "revoke", name, "-c", config]) == ExitCode.USAGE
    assert main(["join-token", "list", "-c", config]) == ExitCode.OK
    assert "revoked" in capsys.readouterr().out


def test_a_lifetime_that_is_none_is_refused(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["join-token", "create", "-c", config, "--lifetime", "soon"]) == ExitCode.USAGE
    assert "30m or 2h" in capsys.readouterr().err
