from __future__ import annotations

from pathlib import Path

import pytest

from cluster_ai.cli import logins
from cluster_ai.cli.gateway import TOKEN
from cluster_ai.cli.logins import Login
from cluster_ai.cli.main import main

ANNA = Login("anna", "t", 9e9, "r")
URL = "https://127.0.0.1:9"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv(TOKEN, raising=False)


def test_who_logged_in_before_tls_is_told_and_becomes_nobody_else(capsys: pytest.CaptureFixture[str]) -> None:
    logins.keep("http://127.0.0.1:9", ANNA)
    assert main(["whoami", "--gateway", URL]) == 5
    said = capsys.readouterr().err
    assert "anna logged in here before the gateway spoke TLS" in said
    assert "cluster-ai login" in said
    assert main(["logout", "--gateway", URL]) == 0
    assert "anna" in capsys.readouterr().out
    assert not logins.anywhere()


def test_a_new_login_takes_the_place_of_that_before_tls() -> None:
    logins.keep("http://127.0.0.1:9", ANNA)
    logins.keep("http://127.0.0.1:8", ANNA)
    logins.keep(URL, ANNA)
    assert logins.kept(URL) == ANNA
    assert logins.before_tls(URL) is None
    assert logins.before_tls("https://127.0.0.1:8") == ANNA
    assert logins.before_tls("http://127.0.0.1:8") is None


def test_a_damaged_file_of_logins_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    path = logins.folder() / logins.FILE
    path.parent.mkdir(parents=True)
    path.write_text("junk")
    assert main(["whoami", "--gateway", URL]) == 65
    assert f"{path}: can't be read: " in capsys.readouterr().err
