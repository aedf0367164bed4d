from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.host import verify
from cluster_ai.host.faults import Fault
from cluster_ai.host.verify import Found
from cluster_ai.settings import HostSettings


@pytest.fixture
def release(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    manifest = {
        "files": {"etc/a": {"sha256": hashlib.sha256(b"a").hexdigest(), "mode": "0644"}},
        "units": {"u.service": "1"},
    }
    text = json.dumps(manifest)
    path = tmp_path / hashlib.sha256(text.encode()).hexdigest()
    (path / "etc").mkdir(parents=True)
    (path / "etc/a").write_text("a")
    (path / "etc/a").chmod(0o644)
    (path / "manifest.json").write_text(text)
    (path / "units.txt").write_text("u.service 1\n")
    return path, manifest


def found(release: tuple[Path, dict[str, Any]]) -> dict[str, str]:
    faults = list(verify.files(*release))
    assert all(fault.kind == "files" and fault.repair == "release" for fault in faults)
    return {fault.what: fault.how for fault in faults}


def test_a_release_as_its_manifest_says_has_no_drift(release: tuple[Path, dict[str, Any]]) -> None:
    assert found(release) == {}


def test_every_kind_of_change_to_a_file_is_told(release: tuple[Path, dict[str, Any]]) -> None:
    path, _ = release
    (path / "etc/b").write_text("")
    (path / "etc/a").chmod(0o600)
    assert found(release) == {"etc/a": "mode", "etc/b": "extra"}
    (path / "etc/a").write_text("else")
    assert found(release)["etc/a"] == "changed"
    (path / "etc/a").unlink()
    (path / "units.txt").write_text("")
    (path / "manifest.json").write_text("{}")
    assert found(release) == {
        "etc/a": "missing",
        "etc/b": "extra",
        "units.txt": "changed",
        "manifest.json": "changed",
    }


@pytest.mark.parametrize(("answers", "counts"), [([True, True], True), ([True, False], False), ([False], False)])
def test_what_was_looked_at_while_a_switch_came_does_not_count(
    monkeypatch: pytest.MonkeyPatch, answers: list[bool], counts: bool
) -> None:
    result, said = Found("d" * 64, (Fault("units", "u.service", "is activating", "release"),), 1.0), iter(answers)
    monkeypatch.setattr(verify, "examine", lambda told, release: result)
    monkeypatch.setattr(verify, "settled", lambda release, limit: next(said))
    told = HostSettings("h", ("worker",), (), (), "tls://h:8786", None, None, None, None, None, None, ())
    assert verify.undisturbed(told, Path("r"), 0) == (result if counts else None)
    assert not [*said]


def test_a_result_is_told_by_kind_for_people_and_whole_for_programs() -> None:
    result = Found(
        "d" * 64,
        (
            Fault("files", "etc/a", "changed", "release"),
            Fault("files", "etc/b", "extra", "release"),
            Fault("ports", "port 1", "taken", "hand"),
        ),
        12.5,
    )
    assert result.lines() == ["files:", "  etc/a: changed", "  etc/b: extra", "ports:", "  port 1: taken"]
    told = json.loads(json.dumps(result.as_dict()))
    assert (told["drift"], told["at"]) == (True, 12.5)
    assert told["faults"][2] == {"kind": "ports", "what": "port 1", "how": "taken", "repair": "hand"}
    assert Found("d", (), 0.0).as_dict()["drift"] is False
