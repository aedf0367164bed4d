"""Decisions outlast the gateway, the latest of them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sqlite3
from pathlib import Path

import pytest

from cluster_ai.gateway.api.native.kept.database import FILE, Database
from cluster_ai.gateway.log import Log
from cluster_ai.gateway.models import decisions
from cluster_ai.gateway.models.decisions import Decided, Decisions

ONE = Decided(100.0, "replicas", "m:latest", 1, 2, "8 requests at once, 4 a replica", dry_run=False)


def begun(folder: Path, text: io.StringIO | None = None) -> Decisions:
    return Decisions(Database(folder), Log(text or io.StringIO()))


async def test_a_decision_is_known_after_a_restart_and_stands_in_the_log(tmp_path: Path) -> None:
    text = io.StringIO()
    dry = dataclasses.replace(ONE, at=101.0, kind="power", name="w1", dry_run=True)
    for it in (ONE, dry):
        await begun(tmp_path, text).add(it)
    assert await begun(tmp_path).latest() == [dry, ONE]
    assert [json.loads(line)["name"] for line in text.getvalue().splitlines()] == ["m:latest", "w1"]


async def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "KEPT", 3)
    kept = begun(tmp_path)
    for number in range(5):
        await kept.add(dataclasses.replace(ONE, at=float(number)))
    assert [it.at for it in await kept.latest()] == [4.0, 3.0, 2.0]


async def test_what_is_kept_already_stays_as_it_is(tmp_path: Path) -> None:
    kept = begun(tmp_path)
    await kept.add(ONE)
    await kept.add(dataclasses.replace(ONE, reason="told once more"))
    assert await kept.latest() == [ONE]


async def test_a_storage_that_fails_keeps_nothing_from_being_decided(tmp_path: Path) -> None:
    text = io.StringIO()
    kept = begun(tmp_path, text)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("DROP TABLE decisions")
    await kept.add(ONE)
    assert "storage" in text.getvalue()
