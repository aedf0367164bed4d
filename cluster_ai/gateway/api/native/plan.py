"""The last plan that a controller left on this host (rollout/planned.py), which is only told of here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.parts import PREFIX, Parts, refusals
from cluster_ai.gateway.api.native.sessions import when

PLAN: JsonDict = {
    "made": "2026-11-24T09:20:00Z",
    "who": "anna@desk",
    "configuration": "0" * 64,
    "text": "cluster:\n  name: production\n",
    "limit": [],
    "summary": "2 of 3 hosts would change, 1.9 GB to send.",
    "changes": ["engine 0.17.3 -> 0.17.4: restarts Ollama on gpu-worker-01, gpu-worker-02"],
    "waves": [
        {
            "when": "wave 1",
            "hosts": "canary: gpu-worker-01",
            "meanwhile": ["then 2 min of traffic are compared with that of the others"],
        }
    ],
    "hosts": [{"hosts": "gpu-worker-01 (worker, 10.0.0.2)", "changes": ["release: 111111111111 -> 222222222222"]}],
    "left_out": 0,
    "unreachable": [],
}


class PlannedWave(BaseModel):
    when: str
    hosts: str
    meanwhile: list[str] = Field(description="What is unavailable, and what is waited for.")


class PlannedHosts(BaseModel):
    hosts: str = Field(description="Those on which the same changes.")
    changes: list[str]


class PublishedPlan(BaseModel):
    made: str
    who: str
    configuration: str = Field(description="SHA-256 of the cluster.yaml that it was made of.")
    text: str = Field(description="That cluster.yaml.")
    limit: list[str] = Field(description="The hosts that it is about; empty: all.")
    summary: str
    changes: list[str]
    waves: list[PlannedWave]
    hosts: list[PlannedHosts]
    left_out: int = Field(description="Hosts that change, and are not told of one by one.")
    unreachable: list[str] = Field(description="Hosts that could not be asked, and why.")


class LastPlan(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"plan": PLAN}]})

    plan: PublishedPlan | None = Field(description="null: nobody has left one.")


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/plan", tags=["rollouts"])
    path = Path(parts.settings.plan) if parts.settings.plan else None

    @router.get(
        "",
        summary="What the last plan that was published would change, and when",
        operation_id="getPlan",
        responses=refusals(404, 503),
    )
    async def plan() -> LastPlan:
        return LastPlan(plan=await asyncio.to_thread(_read, path))

    return router


def _read(path: Path | None) -> PublishedPlan | None:
    """Raises Refusal."""
    try:
        told = json.loads(path.read_text()) if path and path.exists() else None
        return PublishedPlan(**{**told, "made": when(told["made"])}) if told else None
    except (ValueError, KeyError, TypeError, ValidationError) as e:
        text = "the plan is in a form that this version of the gateway can't read: make it anew, on a controller"
        raise Refusal(404, "plan_unreadable", text) from e
    except OSError as e:
        raise Refusal(503, "storage_failed", f"the plan can't be read: {e}") from e
