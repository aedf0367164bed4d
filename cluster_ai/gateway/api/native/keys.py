"""Named API keys: made and revoked by an administrator."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.gateway.admission.keys import Key
from cluster_ai.gateway.admission.users import Limits, User
from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.parts import PREFIX, Administering, Parts, refusals

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
_MOST = 1_000_000_000
LIMITS: JsonDict = {"requests_per_minute": 60, "tokens_per_minute": None, "max_concurrent": 4}
EXAMPLE: JsonDict = {
    "name": "anna",
    "priority": 0,
    "admin": False,
    "limits": LIMITS,
    "created": "2026-11-24T09:30:00Z",
}
KeyName = Annotated[str, Path(pattern=_NAME, examples=["anna"])]


class KeyLimits(Body):
    """null: as cluster.yaml has it for every user; 0: no limit."""

    requests_per_minute: int | None = Field(default=None, ge=0, le=_MOST)
    tokens_per_minute: int | None = Field(default=None, ge=0, le=_MOST, description="Of prompts and answers together.")
    max_concurrent: int | None = Field(default=None, ge=0, le=_MOST, description="Requests that run or wait at once.")


class KeyRequest(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "anna", "limits": {"requests_per_minute": 60}}]})

    name: str = Field(pattern=_NAME, description="Whose it is: stands in logs and usage.")
    priority: int = Field(0, ge=-10, le=10, description="Of requests that wait, a higher one goes first.")
    admin: bool = Field(False, description="Whether it may administer the cluster.")
    limits: KeyLimits = KeyLimits()


class KeyInfo(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: str
    priority: int
    admin: bool
    limits: KeyLimits
    created: str


class NewKey(KeyInfo):
    """The key is told here, and nowhere else ever again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**EXAMPLE, "key": "cai-43_letters_and_digits"}]})

    key: str


class KeyList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"keys": [EXAMPLE]}]})

    keys: list[KeyInfo]


def _info(key: Key) -> KeyInfo:
    user, limits = key.user, key.user.limits or Limits()
    return KeyInfo(
        name=user.name,
        priority=user.priority,
        admin=user.admin,
        limits=KeyLimits(
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            max_concurrent=limits.max_concurrent,
        ),
        created=datetime.fromtimestamp(key.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


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
    async def create(user: Administering, body: KeyRequest) -> NewKey:
        limits = Limits(**body.limits.model_dump())
        secret, key = keys.create(User(body.name, body.priority, body.admin, limits=limits))
        return NewKey(**_info(key).model_dump(), key=secret)

    @router.get("", summary="Every key's name and limits", operation_id="listKeys", responses=refusals())
    async def listed(user: Administering) -> KeyList:
        return KeyList(keys=[_info(key) for key in keys.list()])

    @router.delete(
        "/{name}",
        status_code=204,
        summary="Revoke a key: it is refused from now on",
        operation_id="revokeKey",
        responses=refusals(404, 503),
    )
    async def revoke(user: Administering, name: KeyName) -> Response:
        keys.revoke(name)
        return Response(status_code=204)

    return router
