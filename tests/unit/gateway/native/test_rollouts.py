"""What the gateway tells of rollouts, from records as a controller's journal makes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native import rollouts
from cluster_ai.rollout.journal import Change, Intent, Journal
from cluster_ai.rollout.waves import Wave

A, B = "a" * 64, "b" * 64
WAVES = tuple(it.as_dict() for it in (Wave(("head",), "head"), Wave(("w1",), "canary", bake=60.0)))


def kept(folder: Path, journal: Journal, text: str) -> str:
    """A rollout that failed its analysis, copied as the lease does."""
    name = journal.begin(
        "cluster-ai apply", "anna@desk", Intent("c", "canary", "0" * 64, {"w1": Change(A, B)}, WAVES, text)
    )
    journal.step(name, "push", "w1", "changed")
    journal.step(name, "analysis", "", "fail", json.dumps({"result": "fail", "checks": []}))
    journal.set_state(name, "returned", "the analysis of w1 fails")
    (folder / f"{name}.json").write_text(json.dumps(journal.get(name).as_dict()))
    return name


Ask = Callable[[str], tuple[int, Any]]  # path -> status and answer


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    parts = MagicMock()
    parts.settings.rollouts = str(tmp_path)
    app = FastAPI()
    app.include_router(rollouts.routes(parts))

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        return JSONResponse({"code": refusal.code}, refusal.status)

    async def get(path: str) -> tuple[int, Any]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            answer = await client.get(f"/api/v1/rollouts{path}")
            return answer.status_code, answer.json()

    return lambda path: asyncio.run(get(path))


def test_a_rollout_is_told_with_its_waves_steps_and_configuration(tmp_path: Path, ask: Ask) -> None:
    name = kept(tmp_path, Journal(tmp_path / "rollouts.sqlite"), "cluster: {name: c}\n")
    (tmp_path / "20990101-000000-0000.json").write_text("{}")  # what can't be read is left out
    (listed,) = ask("")[1]["rollouts"]
    assert (listed["id"], listed["state"], listed["reason"]) == (name, "returned", "the analysis of w1 fails")
    whole = ask(f"/{name}")[1]
    assert whole["hosts"] == [{"host": "w1", "before": A, "wanted": B}]
    assert [(it["kind"], it["hosts"], it["bake"]) for it in whole["waves"]] == [
        ("head", ["head"], 0.0),
        ("canary", ["w1"], 60.0),
    ]
    assert [(it["step"], it["status"]) for it in whole["steps"]] == [("push", "changed"), ("analysis", "fail")]
    assert "text" not in whole
    assert ask(f"/{name}/configuration")[1]["text"] == "cluster: {name: c}\n"


def test_a_record_in_another_form_is_told_as_such(tmp_path: Path, ask: Ask) -> None:
    name = kept(tmp_path, Journal(tmp_path / "rollouts.sqlite"), "")
    record = json.loads((tmp_path / f"{name}.json").read_text())
    for hosts in ({"w1": {"from": A}}, ["w1"]):
        record["intent"]["hosts"] = hosts
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
        assert ask(f"/{name}") == (404, {"code": "rollout_unreadable"})


def test_the_newest_come_first_and_no_more_than_asked_for(tmp_path: Path, ask: Ask) -> None:
    journal = Journal(tmp_path / "rollouts.sqlite")
    names = sorted(kept(tmp_path, journal, "") for _ in range(3))
    found = ask("?limit=2")[1]["rollouts"]
    assert [it["id"] for it in found] == names[::-1][:2]


def test_what_is_not_there_is_not_found(tmp_path: Path, ask: Ask) -> None:
    name = kept(tmp_path, Journal(tmp_path / "rollouts.sqlite"), "")
    assert ask("/20260101-000000-abcd")[0] == 404
    assert ask(f"/{name}/configuration") == (404, {"code": "no_configuration"})
    assert ask("/..%2f..%2fetc")[0] in (404, 422)
