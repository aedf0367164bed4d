"""Named API keys: made and revoked by an administrator."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.engine.client import canonical
from cluster_ai.gateway.admission.keys import Key
from cluster_ai.gateway.admission.users import Limits, User
from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.parts import PREFIX, Asking, Parts, Tracing, refusals
from cluster_ai.gateway.api.native.sessions import when
from cluster_ai.gateway.identity.roles import Role

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
_MOST = 1_000_000_000
_DAY = 24 * 3600.0
LIMITS: JsonDict = {"requests_per_minute": 60, "tokens_per_minute": None, "max_concurrent": 4}
EXAMPLE: JsonDict = {
    "name": "anna",
    "priority": 0,
    "role": "user",
    "limits": LIMITS,
    "models": None,
    "created": "2026-11-24T09:30:00Z",
    "ends": None,
}
KeyName = Annotated[str, Path(pattern=NAME, examples=["anna"])]


class KeyLimits(Body):
    """null: as cluster.yaml has it for every user; 0: no limit."""

    requests_per_minute: int | None = Field(default=None, ge=0, le=_MOST)
    tokens_per_minute: int | None = Field(default=None, ge=0, le=_MOST, description="Of prompts and answers together.")
    max_concurrent: int | None = Field(default=None, ge=0, le=_MOST, description="Requests that run or wait at once.")


class KeyRequest(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "anna", "limits": {"requests_per_minute": 60}}]})

    name: str = Field(pattern=NAME, description="Whose it is: stands in logs and usage.")
    priority: int = Field(0, ge=-10, le=10, description="Of requests that wait, a higher one goes first.")
    role: Role = Field("user", description="What it may; `cluster-ai roles` shows it.")
    limits: KeyLimits = KeyLimits()
    models: list[Annotated[str, Field(min_length=1, max_length=500)]] | None = Field(
        None, max_length=1000, description="The only ones that may be used; null: all."
    )
    days: int | None = Field(None, ge=1, le=3650, description="How long it is good; null: until it is revoked.")


class KeyInfo(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: str
    priority: int
    role: Role
    limits: KeyLimits
    models: list[str] | None
    created: str
    ends: str | None


class NewKey(KeyInfo):
    """The key is told here, and nowhere else ever again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**EXAMPLE, "key": "cai-43_letters_and_digits"}]})

    key: str


class KeyList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"keys": [EXAMPLE]}]})

    keys: list[KeyInfo]


def _info(key: Key) -> KeyInfo:
    user = key.user
    return KeyInfo(
        name=user.name,
        priority=user.priority,
        role=user.role,
        limits=limits_info(user.limits),
        models=None if user.models is None else sorted(user.models),
        created=when(key.created),
        ends=None if key.ends is None else when(key.ends),
    )


def limits_info(limits: Limits | None) -> KeyLimits:
    return KeyLimits(**asdict(limits or Limits()))


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/keys", tags=["keys"])
    keys = parts.books.keys

    @router.post(
        "",
        status_code=201,
        summary="Make a key; the answer alone has it",
        operation_id="createKey",
        responses=refusals(409, 503),
    )
    async def create(user: Asking, trace: Tracing, body: KeyRequest) -> NewKey:
        trace.about, trace.note = body.name, f"create, role {body.role}"
        limits = Limits(**body.limits.model_dump())
        models = None if body.models is None else frozenset(canonical(model) for model in body.models)
        owner = User(body.name, body.priority, body.role, limits=limits, models=models)
        secret, key = keys.create(owner, time.time() + body.days * _DAY if body.days is not None else None)
        return NewKey(**_info(key).model_dump(), key=secret)

    @router.get("", summary="Every key's name and limits", operation_id="listKeys", responses=refusals())
    async def listed(user: Asking) -> KeyList:
        return KeyList(keys=[_info(key) for key in keys.list()])

    @router.delete(
        "/{name}",
        status_code=204,
        summary="Revoke a key: it is refused from now on",
        operation_id="revokeKey",
        responses=refusals(404, 503),
    )
    async def revoke(user: Asking, trace: Tracing, name: KeyName) -> Response:
        trace.note = "revoke"
        keys.revoke(name)
        return Response(status_code=204)

    return router
