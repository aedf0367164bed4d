"""Users who log in with a password: made, changed and removed by an administrator."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.engine.client import canonical
from cluster_ai.gateway.admission.users import Limits, User
from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.keys import LIMITS, NAME, KeyLimits, limits_info
from cluster_ai.gateway.api.native.parts import PREFIX, Asking, Parts, Tracing, refusals
from cluster_ai.gateway.api.native.sessions import when
from cluster_ai.gateway.identity.passwords import LONGEST, SHORTEST
from cluster_ai.gateway.identity.roles import Rank, Role
from cluster_ai.gateway.identity.store import Account

EXAMPLE: JsonDict = {
    "name": "anna",
    "role": "user",
    "priority": 0,
    "limits": LIMITS,
    "models": None,
    "created": "2026-11-24T09:30:00Z",
    "oidc": False,
    "logins": 1,
}
UserName = Annotated[str, Path(pattern=NAME, examples=["anna"])]
Password = Annotated[str, Field(min_length=SHORTEST, max_length=LONGEST, description="Only a slow hash of it is kept.")]
ModelNames = Annotated[list[Annotated[str, Field(min_length=1, max_length=500)]], Field(max_length=1000)]


class UserRequest(Body):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "anna", "password": "four words are good", "role": "user"}]}
    )

    name: str = Field(pattern=NAME, description="Stands in logs and usage.")
    password: Password
    role: Rank = "user"
    priority: int = Field(0, ge=-10, le=10, description="Of requests that wait, a higher one goes first.")
    limits: KeyLimits = KeyLimits()
    models: ModelNames | None = Field(None, description="The only ones that may be used; null: all.")


class UserChange(Body):
    """What isn't named stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "operator"}]})

    password: Password | None = Field(None, description="A new one ends all logins.")
    role: Rank | None = None
    priority: int | None = Field(None, ge=-10, le=10)
    limits: KeyLimits | None = None
    models: ModelNames | None = Field(None, description="null: all, where it is named.")


class UserInfo(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: str
    role: Role
    priority: int
    limits: KeyLimits
    models: list[str] | None
    created: str
    oidc: bool = Field(description="Whether the OpenID provider vouches for them; they have no password here then.")
    logins: int = Field(description="How many there are now.")


class UserList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"users": [EXAMPLE]}]})

    users: list[UserInfo]


def named(models: list[str] | None) -> frozenset[str] | None:
    return None if models is None else frozenset(canonical(model) for model in models)


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/users", tags=["users"])
    logins = parts.logins

    def info(account: Account) -> UserInfo:
        user = account.user
        return UserInfo(
            name=user.name,
            role=user.role,
            priority=user.priority,
            limits=limits_info(user.limits),
            models=None if user.models is None else sorted(user.models),
            created=when(account.created),
            oidc=bool(account.subject),
            logins=logins.store.logins(user.name),
        )

    @router.post("", status_code=201, summary="Make a user", operation_id="createUser", responses=refusals(409, 503))
    async def create(asking: Asking, trace: Tracing, body: UserRequest) -> UserInfo:
        trace.about, trace.note = body.name, f"create, role {body.role}"
        limits = Limits(**body.limits.model_dump())
        user = User(body.name, body.priority, body.role, limits=limits, models=named(body.models))
        return info(await logins.add(user, body.password))

    @router.get("", summary="Every user", operation_id="listUsers", responses=refusals())
    async def listed(asking: Asking) -> UserList:
        return UserList(users=[info(account) for account in logins.store.accounts()])

    @router.patch(
        "/{name}",
        summary="Change a user: role, limits, models, password",
        operation_id="changeUser",
        responses=refusals(404, 503),
    )
    async def change(asking: Asking, trace: Tracing, name: UserName, body: UserChange) -> UserInfo:
        trace.note = "change " + ", ".join(sorted(body.model_fields_set))
        if body.role is not None:
            trace.note += f", role {body.role}"

        def changed(user: User) -> User:
            new: dict[str, Any] = {}
            if body.role is not None:
                new["role"] = body.role
            if body.priority is not None:
                new["priority"] = body.priority
            if body.limits is not None:
                new["limits"] = Limits(**body.limits.model_dump())
            if "models" in body.model_fields_set:
                new["models"] = named(body.models)
            return replace(user, **new)

        return info(await logins.change(name, changed, body.password))

    @router.delete(
        "/{name}",
        status_code=204,
        summary="Remove a user: their logins end at once",
        operation_id="removeUser",
        responses=refusals(404, 503),
    )
    async def remove(asking: Asking, trace: Tracing, name: UserName) -> Response:
        trace.note = "remove"
        logins.store.remove(name)
        return Response(status_code=204)

    @router.delete(
        "/{name}/logins",
        status_code=204,
        summary="End all logins of a user; with the password they may log in anew",
        operation_id="endLogins",
        responses=refusals(404, 503),
    )
    async def end_logins(asking: Asking, trace: Tracing, name: UserName) -> Response:
        trace.note = "end logins"
        logins.known(name)
        logins.store.end_all(name)
        return Response(status_code=204)

    return router
