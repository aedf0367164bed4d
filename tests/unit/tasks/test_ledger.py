from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster_ai.tasks.ledger import KEPT, BegunError, Ledger


def test_what_has_begun_does_not_begin_again(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "l").begin("task-1.1") is None
    with pytest.raises(BegunError):
        Ledger(tmp_path / "l").begin("task-1.1")
    assert Ledger(tmp_path / "l").begin("task-1.2") is None


def test_what_came_out_is_told_to_whoever_asks_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    ledger.begin("task-1.1")
    ledger.end("task-1.1", {"result": [1]})
    assert Ledger(tmp_path / "l").begin("task-1.1") == {"result": [1]}


def test_only_what_is_old_is_forgotten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    ledger.begin("old")
    ledger.begin("new")
    before = (tmp_path / "l" / "old").stat().st_mtime - KEPT - 1
    os.utime(tmp_path / "l" / "old", (before, before))
    ledger.tidy()
    assert [path.name for path in (tmp_path / "l").iterdir()] == ["new"]
