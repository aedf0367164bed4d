"""A plan's whole way: worded on the controller, kept on the head host, told by its gateway, read by the dashboard."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
from fastapi import FastAPI

from cluster_ai import layout
from cluster_ai.cli.publishing import MOST, words
from cluster_ai.errors import HostError
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native import plan as native
from cluster_ai.provision import ssh
from cluster_ai.rollout.lease import Head
from cluster_ai.rollout.plan import Plan
from cluster_ai.rollout.planned import publish
from dashboard import plan as shown
from dashboard.gateway import Caller
from tests.unit.cli.test_rollout_output import HOST, SAME, plan

TEXT = "cluster: {name: lab}\n"
HERE = Head("head", ("sh", "-c"))  # ssh's command line up to the address; the script is its last word


def told(file: Path) -> Any:
    """The gateway's answer. Raises Refusal."""
    parts = MagicMock()
    parts.settings.plan = str(file)
    app = FastAPI()
    app.include_router(native.routes(parts))

    async def get() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            return (await client.get("/api/v1/plan")).json()

    return asyncio.run(get())


def worded(folder: Path, made: Plan, *limit: str) -> dict[str, Any]:
    (folder / "cluster.yaml").write_text(TEXT)
    config: Any = SimpleNamespace(path=folder / "cluster.yaml")
    return words(made, config, limit)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(layout, "STATE", PurePosixPath(tmp_path / "state"))
    monkeypatch.setattr(ssh, "remote_command", lambda script, **_: script)
    return tmp_path / "state"


def test_a_published_plan_is_read_by_the_dashboard_as_the_controller_told_it(tmp_path: Path, state: Path) -> None:
    made = plan(SAME, HOST, errors=(HostError("doesn't answer", where="h3"),))
    publish(HERE, worded(tmp_path, plan(SAME)))
    publish(HERE, worded(tmp_path, made, "h2"))  # the last one counts
    said = told(state / "plan.json")
    assert said["plan"]["configuration"] == hashlib.sha256(TEXT.encode()).hexdigest()
    gateway: Any = SimpleNamespace(get=lambda path, caller: said)
    found = shown.read(gateway, Caller()).plan
    assert found is not None
    assert found.summary.startswith("1 of 2 hosts would change")
    assert "configuration of Dask worker: restarts Dask worker on h2" in found.changes
    assert ("wave 1", "workers: h2") in [(it.when, it.hosts) for it in found.waves]
    assert any("finishes those that run" in sentence for it in found.waves for sentence in it.meanwhile)
    assert [hosts for hosts, _ in found.hosts] == ["h2 (worker, 10.0.0.2)"]
    assert (found.limit, found.unreachable, found.text) == (("h2",), ("h3: doesn't answer",), TEXT)


def test_a_plan_of_many_unlike_hosts_says_how_many_it_leaves_out(tmp_path: Path) -> None:
    hosts = [replace(HOST, host=f"w{number}", models_added=(f"m{number}",)) for number in range(MOST + 5)]
    said = worded(tmp_path, Plan("lab", tuple(hosts), (), ()))
    assert (len(said["hosts"]), said["left_out"]) == (MOST, 5)


def test_without_one_there_is_none_and_a_damaged_one_is_told_as_such(tmp_path: Path) -> None:
    assert told(tmp_path / "plan.json") == {"plan": None}
    (tmp_path / "plan.json").write_text('{"made": 0}')
    with pytest.raises(Refusal) as refusal:
        told(tmp_path / "plan.json")
    assert (refusal.value.status, refusal.value.code) == (404, "plan_unreadable")
