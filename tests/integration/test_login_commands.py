"""`cluster-ai login`, `whoami`, `users`, `roles`, `audit` against a real gateway."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.audit.chain import Event
from cluster_ai.audit.file import CURRENT, AuditFile
from cluster_ai.cli import logins
from cluster_ai.cli.main import main
from tests.rig import cluster as rig

pytestmark = pytest.mark.integration

PASSWORD = "correct horse battery"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Its URL, and its folder."""
    folder = tmp_path_factory.mktemp("login")
    credentials = folder / "credentials"
    credentials.mkdir()
    (credentials / layout.GATEWAY_TOKEN).write_text(rig.TOKEN + "\n")
    told = rig.gateway_settings(scheduler="tcp://127.0.0.1:9")
    with rig.gateway(folder / "gateway", told, credentials, workers=0) as (url, _):
        yield url, folder / "gateway"


@pytest.fixture
def run(
    gateway: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """One command line; its exit code and what it printed. typed: on standard input; as_token: the cluster's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config = tmp_path / "cluster.yaml"
    config.touch()  # that there is one is enough, with --gateway
    url, _ = gateway

    def ran(*arguments: str, typed: str = "", as_token: bool = False) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        monkeypatch.setenv("CLUSTER_AI_TOKEN", rig.TOKEN if as_token else "")
        code = main(["--config", str(config), *arguments, "--gateway", url])
        said = capsys.readouterr()
        return code, said.out, said.err

    return ran


def test_commands_run_in_the_name_of_who_is_logged_in(run: Run, gateway: tuple[str, Path], tmp_path: Path) -> None:
    added = run("users", "add", "anna", "--role", "operator", "--password-stdin", typed=PASSWORD + "\n", as_token=True)
    assert added[0] == 0, added
    assert run("whoami")[0] == 5
    code, said, _ = run("login", "anna", "--password-stdin", typed=PASSWORD + "\n")
    assert code == 0
    assert "as anna, role operator" in said
    file = tmp_path / "state" / "cluster-ai" / logins.FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in file.read_text()
    assert json.loads(run("whoami", "--json")[1])["name"] == "anna"
    code, _, error = run("users", "list")
    assert code == 5
    assert "that takes admin" in error
    token = json.loads(file.read_text())[gateway[0]]["token"]
    assert run("logout")[0] == 0
    assert run("whoami")[0] == 5
    with pytest.raises(OSError, match="401"):
        rig.get(f"{gateway[0]}/api/v1/whoami", token=token)


def test_a_token_that_is_about_to_end_is_renewed(run: Run, gateway: tuple[str, Path], tmp_path: Path) -> None:
    made = run("users", "add", "ben", as_token=True)[1].strip()  # without a terminal one is made
    assert run("login", "ben", "--password-stdin", typed=made + "\n")[0] == 0
    file = tmp_path / "state" / "cluster-ai" / logins.FILE
    kept = json.loads(file.read_text())
    before = kept[gateway[0]]["refresh"]
    kept[gateway[0]]["ends"] = 0
    file.write_text(json.dumps(kept))
    assert run("whoami")[0] == 0
    assert json.loads(file.read_text())[gateway[0]]["refresh"] != before
    assert run("users", "logout", "ben", as_token=True)[0] == 0
    code, _, error = run("whoami")
    assert code == 5
    assert "log in again" in error


def test_users_are_listed_changed_and_removed(run: Run) -> None:
    assert run("users", "add", "carl", "--model", "small", as_token=True)[0] == 0
    assert run("users", "role", "carl", "viewer", as_token=True)[0] == 0
    assert run("users", "models", "carl", as_token=True)[0] == 0
    users = {user["name"]: user for user in json.loads(run("users", "list", "--json", as_token=True)[1])}
    assert (users["carl"]["role"], users["carl"]["models"]) == ("viewer", None)
    assert run("users", "passwd", "carl", "--password-stdin", typed="short\n", as_token=True)[0] == 64
    assert run("users", "remove", "carl", as_token=True)[0] == 0
    assert run("users", "remove", "carl", as_token=True)[0] == 64


def test_a_wrong_password_is_told_with_what_to_do(run: Run) -> None:
    code, _, error = run("login", "nobody", "--password-stdin", typed="wrong\n")
    assert code == 5
    assert "users passwd" in error


def test_a_tampered_log_is_found_by_audit_verify(run: Run, gateway: tuple[str, Path]) -> None:
    run("users", "add", "dora", as_token=True)
    code, said, _ = run("audit", "verify", as_token=True)
    assert code == 0, said
    assert "dora" in run("audit", "show", "--json", as_token=True)[1]
    path = gateway[1] / "audit" / CURRENT
    whole = path.read_text()
    try:
        path.write_text(whole.replace('"on":"dora"', '"on":"eve"'))
        code, said, _ = run("audit", "verify", as_token=True)
        assert code == 2
        assert "was changed" in said
    finally:
        path.write_text(whole)
    assert run("audit", "verify", as_token=True)[0] == 0


def test_a_log_that_was_made_anew_is_found_by_what_was_remembered(run: Run, gateway: tuple[str, Path]) -> None:
    run("users", "add", "emil", as_token=True)
    assert run("audit", "verify", as_token=True)[0] == 0
    folder = gateway[1] / "audit"
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    try:
        for path in kept:
            path.unlink()
        file = AuditFile(folder)
        for _ in range(len(kept[folder / CURRENT].splitlines()) + 3):
            file.write(Event("nobody", "nothing"))
        code, said, _ = run("audit", "verify", as_token=True)
        assert code == 2
        assert "written anew" in said
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_what_is_done_from_here_stands_in_the_log_beside_cluster_yaml(run: Run, tmp_path: Path) -> None:
    run("users", "add", "fred", "--password-stdin", typed=PASSWORD + "\n", as_token=True)
    run("users", "remove", "not-there", as_token=True)
    run("users", "list", as_token=True)
    file = AuditFile(tmp_path / ".cluster-ai" / "audit")
    lines = [json.loads(text) for text in file.lines()]
    told = [(line["what"], *line["on"].split()[:2], line["result"]) for line in lines]
    assert told == [("cli.users", "add", "fred", "done"), ("cli.users", "remove", "not-there", "failed")]
    assert file.verify().good
    assert PASSWORD not in str(lines)


def test_roles_shows_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["roles"]) == 0
    assert "steer workers" in capsys.readouterr().out
    assert main(["roles", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manage users"] == ["admin"]
