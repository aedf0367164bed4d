"""What rollouts did, from the copies that a controller leaves on this host with each heartbeat (rollout/lease.py).

Only told of here: a rollout is begun, resumed and undone where the SSH keys and the vault are, on a controller.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.parts import PREFIX, Parts, refusals
from cluster_ai.gateway.api.native.sessions import when

T = TypeVar("T")
_ID = r"^[0-9]{8}-[0-9]{6}-[0-9a-f]{4}$"
ID = "20261124-093000-a1b2"
RolloutId = Annotated[str, InPath(pattern=_ID, description="As `listRollouts` tells it.", examples=[ID])]
INFO: JsonDict = {
    "id": ID,
    "command": "cluster-ai apply",
    "who": "anna@desk (4711)",
    "strategy": "canary",
    "state": "done",
    "reason": "",
    "started": "2026-11-24T09:30:00Z",
    "ended": "2026-11-24T09:42:10Z",
    "configuration": "0" * 64,
}
_STEP: JsonDict = {"at": "2026-11-24T09:31:00Z", "step": "push", "host": "gpu-worker-01", "status": "changed"}
_CHANGE: JsonDict = {"host": "gpu-worker-01", "before": "1" * 64, "wanted": "2" * 64}
_WAVE: JsonDict = {"hosts": ["gpu-worker-01"], "kind": "canary", "pause": 0.0, "bake": 120.0}


class RolloutInfo(BaseModel):
    """state: running, done, failed, returned, paused, interrupted or undone. Times are UTC."""

    model_config = ConfigDict(json_schema_extra={"examples": [INFO]})

    id: str
    command: str
    who: str
    strategy: str
    state: str
    reason: str
    started: str
    ended: str | None
    configuration: str = Field(description="SHA-256 of the cluster.yaml that it applied.")


class Rollouts(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"rollouts": [INFO]}]})

    rollouts: list[RolloutInfo]


class HostChange(BaseModel):
    host: str
    before: str | None = Field(description="The release that it ran; null: none yet.")
    wanted: str = Field(description="The release that it is to run.")


class RolloutWave(BaseModel):
    """Hosts that are switched together. pause, bake: seconds afterwards, of waiting and of traffic that is judged."""

    hosts: list[str]
    kind: str
    pause: float
    bake: float


class RolloutStep(BaseModel):
    at: str
    step: str
    host: str = Field(description="Empty: of the rollout as a whole.")
    status: str
    detail: str = Field(description="Why it failed; of an `analysis`, its verdict as JSON.")


class RolloutDetails(RolloutInfo):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**INFO, "hosts": [_CHANGE], "waves": [_WAVE], "steps": [{**_STEP, "detail": ""}]}]
        }
    )

    hosts: list[HostChange]
    waves: list[RolloutWave]
    steps: list[RolloutStep]


class RolloutConfiguration(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": ID, "sha256": "0" * 64, "text": "cluster:\n  name: production\n"}]}
    )

    id: str
    sha256: str
    text: str = Field(description="The cluster.yaml that it applied, as it was.")


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/rollouts", tags=["rollouts"])
    folder = Path(parts.settings.rollouts) if parts.settings.rollouts else None

    async def one(name: str, read: Callable[[dict[str, Any]], T]) -> T:
        found = await asyncio.to_thread(_records, folder, name)
        if not found:
            raise Refusal(404, "rollout_not_found", f"there is no rollout '{name}' here")
        try:
            return read(found[0])
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            text = f"rollout '{name}' is in a form that this version of the gateway can't read: ask its controller"
            raise Refusal(404, "rollout_unreadable", f"{text}, by `cluster-ai rollouts`") from e

    @router.get(
        "",
        summary="The last rollouts, the newest first; none where this cluster was never rolled out",
        operation_id="listRollouts",
        responses=refusals(503),
    )
    async def rollouts(limit: Annotated[int, Query(ge=1, le=100)] = 20) -> Rollouts:
        found = await asyncio.to_thread(_records, folder, "*", limit)
        return Rollouts(rollouts=[RolloutInfo(**_info(record)) for record in found])

    @router.get(
        "/{id}",
        summary="One rollout: what it was to do, and what it did, step by step",
        operation_id="getRollout",
        responses=refusals(404, 503),
    )
    async def rollout(id: RolloutId) -> RolloutDetails:  # noqa: A002 (the path's name for it)
        return await one(id, _details)

    @router.get(
        "/{id}/configuration",
        summary="The cluster.yaml that a rollout applied",
        operation_id="getRolloutConfiguration",
        responses=refusals(404, 503),
    )
    async def configuration(id: RolloutId) -> RolloutConfiguration:  # noqa: A002 (the path's name for it)
        return await one(id, _configuration)

    return router


def _records(folder: Path | None, name: str, limit: int = 1) -> list[dict[str, Any]]:
    """Those that can be read, the newest first. Raises Refusal (503)."""
    found: list[dict[str, Any]] = []
    try:
        paths = [it for it in folder.iterdir() if it.match(f"{name}.json")] if folder and folder.exists() else []
        for path in sorted(paths, reverse=True):
            try:
                record = json.loads(path.read_text())
                RolloutInfo(**_info(record))
            except (ValueError, KeyError, TypeError, ValidationError):  # of another version
                continue
            found.append(record)
            if len(found) == limit:
                break
    except OSError as e:
        raise Refusal(503, "storage_failed", f"the records of rollouts can't be read: {e}") from e
    return found


def _info(record: dict[str, Any]) -> dict[str, Any]:
    intent, ended = record["intent"], record["ended"]
    return {
        **{name: record[name] for name in ("id", "command", "who", "state", "reason")},
        "strategy": intent["strategy"],
        "started": when(record["started"]),
        "ended": when(ended) if ended is not None else None,
        "configuration": intent["config"],
    }


def _details(record: dict[str, Any]) -> RolloutDetails:
    intent = record["intent"]
    return RolloutDetails(
        **_info(record),
        hosts=[HostChange(host=host, **change) for host, change in intent["hosts"].items()],
        waves=[RolloutWave(**wave) for wave in intent["waves"]],
        steps=[RolloutStep(**{**step, "at": when(step["at"])}) for step in record["steps"]],
    )


def _configuration(record: dict[str, Any]) -> RolloutConfiguration:
    """Raises Refusal (404) where its controller was of a version that told no text."""
    intent = record["intent"]
    if not intent.get("text"):
        raise Refusal(404, "no_configuration", f"rollout '{record['id']}' came without its cluster.yaml")
    return RolloutConfiguration(id=record["id"], sha256=intent["config"], text=intent["text"])
