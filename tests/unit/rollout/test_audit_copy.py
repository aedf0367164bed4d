"""The controller's audit log on the head, with this machine in the head's place: the script that runs there is real."""

from __future__ import annotations

import json
import stat
from pathlib import Path, PurePosixPath

import pytest

from cluster_ai import layout
from cluster_ai.audit.chain import Event, verify
from cluster_ai.audit.file import CURRENT, AuditFile
from cluster_ai.cli.main import main
from cluster_ai.errors import HostError
from cluster_ai.provision import ssh
from cluster_ai.rollout import audit_copy
from cluster_ai.rollout.audit_copy import copy
from cluster_ai.rollout.lease import Head

HERE = Head("head", ("sh", "-c"))


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(layout, "STATE", PurePosixPath(tmp_path / "state"))
    monkeypatch.setattr(ssh, "remote_command", lambda script, **_: script)
    return tmp_path / "state" / "audit"


def log(folder: Path, *done: str) -> AuditFile:
    made = AuditFile(folder)
    for what in done:
        made.write(Event("anna", what))
    return made


def lines(there: Path) -> list[list[str]]:
    return [[json.loads(line)["what"] for line in path.read_text().splitlines()] for path in sorted(there.iterdir())]


def test_each_line_is_there_once_however_often_and_in_how_many_pieces_it_is_copied(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_copy, "AT_ONCE", 2)
    ours = log(tmp_path / "log", "one", "two", "three", "four", "five")
    copy(HERE, ours)
    copy(HERE, ours)
    log(tmp_path / "log", "six")
    copy(HERE, ours)
    assert lines(there) == [["one", "two", "three", "four", "five", "six"]]
    (file,) = there.iterdir()
    assert verify(file.read_bytes().splitlines()).good
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(there.stat().st_mode)) == (0o600, 0o700)


def test_a_log_that_was_begun_anew_is_another_one(there: Path, tmp_path: Path) -> None:
    copy(HERE, log(tmp_path / "log", "one"))
    copy(HERE, log(tmp_path / "other", "two"))
    assert sorted(lines(there)) == [["one"], ["two"]]


def test_what_is_there_is_not_overwritten_by_a_log_that_was_changed(there: Path, tmp_path: Path) -> None:
    ours = log(tmp_path / "log", "one", "two")
    copy(HERE, ours)
    path = tmp_path / "log" / CURRENT
    path.write_text(path.read_text().splitlines()[0] + "\n")
    (tmp_path / "log" / "audit.head").unlink()
    log(tmp_path / "log", "in place of two", "three")
    with pytest.raises(HostError, match="has another line 2"):
        copy(HERE, ours)
    assert lines(there) == [["one", "two"]]


def test_a_controller_that_did_nothing_yet_leaves_nothing(there: Path, tmp_path: Path) -> None:
    copy(HERE, AuditFile(tmp_path / "log"))
    assert not there.exists()


def test_a_command_that_leads_a_rollout_is_told_of_when_it_begins_too(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("nothing")
    assert main(["--config", str(tmp_path / "cluster.yaml"), "apply", "--yes"]) != 0
    told = [json.loads(text) for text in AuditFile(tmp_path / ".cluster-ai" / "audit").after(0, 10)]
    assert [(it["what"], it["result"]) for it in told] == [("cli.apply", "begun"), ("cli.apply", "failed")]
