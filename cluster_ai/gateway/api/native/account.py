"""Logging in and out, and who one is."""

from __future__ import annotations

import ipaddress

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.audit.chain import Event
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.parts import PREFIX, Asking, Parts, Tracing, refusals
from cluster_ai.gateway.api.native.sessions import when
from cluster_ai.gateway.api.native.users import Password
from cluster_ai.gateway.auth import credentials
from cluster_ai.gateway.identity.logins import Granted, no_provider
from cluster_ai.gateway.identity.roles import LEAST, Role

WHOAMI: JsonDict = {"name": "anna", "role": "user", "models": None, "may": ["see models", "use models"]}
LOGIN: JsonDict = {
    "user": "anna",
    "role": "user",
    "token": "eyJhbGciOiJFZERTQSIs...",
    "ends": "2026-11-24T09:45:00Z",
    "expires_in": 900,
    "refresh": "car-43_letters_and_digits",
}


class LoginRequest(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"user": "anna", "password": "four words are good"}]})

    user: str = Field(max_length=63)
    password: str = Field(max_length=1024)


class ProviderInfo(BaseModel):
    """Of the OpenID provider; client_id: of programs that ask it on a person's own machine."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"issuer": "https://login.cluster.ai", "client_id": "cluster-ai-cli"}]}
    )

    issuer: str
    client_id: str


class ProviderRequest(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"id_token": "eyJhbGciOiJSUzI1NiIs..."}]})

    id_token: str = Field(max_length=32768, description="Of the OpenID provider, for a client of this cluster.")


class RefreshRequest(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"refresh": "car-43_letters_and_digits"}]})

    refresh: str = Field(max_length=200)


class LoginReply(BaseModel):
    """token is for `Authorization: Bearer`; refresh gets the next one, once, and is as secret as a password."""

    model_config = ConfigDict(json_schema_extra={"examples": [LOGIN]})

    user: str
    role: Role
    token: str
    ends: str
    expires_in: int = Field(description="Seconds.")
    refresh: str


class WhoAmI(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [WHOAMI]})

    name: str
    role: Role
    models: list[str] | None = Field(description="The only ones that may be used; null: all.")
    may: list[str] = Field(description="What the role may: action and resource.")


class PasswordRequest(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"old": "four words are good", "new": "others as well"}]})

    old: str = Field(max_length=1024)
    new: Password


def _reply(granted: Granted, now: float) -> LoginReply:
    return LoginReply(
        user=granted.user.name,
        role=granted.user.role,
        token=granted.token,
        ends=when(granted.ends),
        expires_in=max(int(granted.ends - now), 0),
        refresh=granted.refresh,
    )


def _address(request: Request) -> str:
    """Of who logs in. The dashboard, which is on this host, tells whose browser asks."""
    client = request.client.host if request.client is not None else ""
    told = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    try:
        if told and ipaddress.ip_address(client).is_loopback:
            return str(ipaddress.ip_address(told))
    except ValueError:
        pass
    return client


def _bearer(request: Request) -> bytes:
    return credentials(request.scope["headers"]).authorization.partition(b" ")[2].strip()


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=PREFIX, tags=["login"])
    logins = parts.logins

    @router.post(
        "/login",
        summary="A token for a user and password; it needs none itself",
        operation_id="login",
        responses=refusals(429, 503),
        openapi_extra={"security": []},
    )
    async def login(request: Request, trace: Tracing, body: LoginRequest) -> LoginReply:
        address = _address(request)
        # A name that nobody has may be a password that was typed into the wrong field.
        who = body.user if logins.store.account(body.user) is not None else "unknown"
        try:
            granted = await logins.log_in(body.user, body.password, address)
        except Refusal as refusal:
            if refusal.status == 401:
                await parts.audit.write(Event(who, "account.login", "", address, "refused", request=trace.id))
            raise
        event = Event(who, "account.login", "", address, role=granted.user.role, request=trace.id)
        await parts.audit.write(event)
        return _reply(granted, logins.now())

    @router.get(
        "/login/oidc",
        summary="The OpenID provider that people can log in by; it needs no token",
        operation_id="getProvider",
        responses=refusals(404),
        openapi_extra={"security": []},
    )
    async def provider() -> ProviderInfo:
        if logins.provider is None:
            raise no_provider()
        return ProviderInfo(issuer=logins.provider.told.issuer, client_id=logins.provider.told.cli_client)

    @router.post(
        "/login/oidc",
        summary="A token for whom the OpenID provider vouches; it needs none itself",
        operation_id="loginByProvider",
        responses=refusals(404, 409, 429, 503),
        openapi_extra={"security": []},
    )
    async def by_provider(request: Request, trace: Tracing, body: ProviderRequest) -> LoginReply:
        address = _address(request)
        try:
            granted = await logins.log_in_by_provider(body.id_token, address)
        except Refusal as refusal:
            if refusal.status in (401, 403, 409):
                note = f"by the OpenID provider: {refusal.message}"[:500]
                event = Event("unknown", "account.login", "", address, "refused", request=trace.id, note=note)
                await parts.audit.write(event)
            raise
        name, role = granted.user.name, granted.user.role
        note = "by the OpenID provider"
        await parts.audit.write(Event(name, "account.login", "", address, role=role, request=trace.id, note=note))
        return _reply(granted, logins.now())

    @router.post(
        "/login/refresh",
        summary="The next token of a login",
        operation_id="refreshLogin",
        responses=refusals(409, 503),
        openapi_extra={"security": []},
    )
    async def refresh(body: RefreshRequest) -> LoginReply:
        return _reply(logins.renew(body.refresh), logins.now())

    @router.post(
        "/logout",
        status_code=204,
        summary="End this login: its token is refused from now on",
        operation_id="logout",
        responses=refusals(503),
    )
    async def logout(asking: Asking, request: Request, trace: Tracing) -> Response:
        trace.note = "logout"
        logins.log_out(_bearer(request))
        return Response(status_code=204)

    @router.post(
        "/password",
        status_code=204,
        summary="Change one's own password; all logins end",
        operation_id="changePassword",
        responses=refusals(404, 429, 503),
    )
    async def password(asking: Asking, request: Request, trace: Tracing, body: PasswordRequest) -> Response:
        trace.note = "password"
        await logins.change_password(asking, body.old, body.new, _address(request))
        return Response(status_code=204)

    @router.get("/whoami", summary="Who one is here, and what one may", operation_id="whoami", responses=refusals())
    async def whoami(asking: Asking) -> WhoAmI:
        return WhoAmI(
            name=asking.name,
            role=asking.role,
            models=None if asking.models is None else sorted(asking.models),
            may=[f"{action} {resource}" for action, resource in LEAST if asking.may(action, resource)],
        )

    return router
