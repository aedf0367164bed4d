"""Conversations that the gateway keeps. Each is its user's own; POST /api/v1/chat adds to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.kept import sessions as kept
from cluster_ai.gateway.api.native.parts import PREFIX, Asking, Parts, owner, refusals

EXAMPLE: JsonDict = {
    "id": "0a1b2c3d4e5f60718293a4b5",
    "title": "Why is the sky blue?",
    "model": "smollm2",
    "system": None,
    "created": "2026-11-24T09:30:00Z",
    "used": "2026-11-24T09:31:07Z",
    "turns": 1,
}
SessionId = Annotated[str, Path(description="As the session was given it.", examples=["0a1b2c3d4e5f60718293a4b5"])]


class SessionRequest(Body):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "smollm2", "system": "Answer in one sentence."}]}
    )

    title: str = Field("", max_length=200, description="Empty: the first question becomes it.")
    model: str | None = Field(None, min_length=1, max_length=500, description="For turns that name none.")
    system: str | None = Field(None, max_length=100_000, description="The system prompt of each turn.")


class SessionInfo(BaseModel):
    """Times are UTC."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    title: str
    model: str | None
    system: str | None
    created: str
    used: str = Field(description="When its last turn was kept. One that isn't used for 30 days is deleted.")
    turns: int


class SessionMessage(BaseModel):
    role: str
    content: str
    at: str
    worker: str | None = Field(description="Who answered.")


class SessionHistory(SessionInfo):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **EXAMPLE,
                    "messages": [
                        {
                            "role": "user",
                            "content": "Why is the sky blue?",
                            "at": "2026-11-24T09:31:07Z",
                            "worker": None,
                        },
                        {
                            "role": "assistant",
                            "content": "Because air scatters blue light most.",
                            "at": "2026-11-24T09:31:07Z",
                            "worker": "gpu-worker-01",
                        },
                    ],
                }
            ]
        }
    )

    messages: list[SessionMessage]


class Sessions(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"sessions": [EXAMPLE]}]})

    sessions: list[SessionInfo]


def when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _info(session: kept.Session) -> SessionInfo:
    return SessionInfo(
        id=session.id,
        title=session.title,
        model=session.model,
        system=session.system,
        created=when(session.created),
        used=when(session.used),
        turns=session.turns,
    )


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/sessions", tags=["sessions"])
    store = kept.Sessions(parts.database)

    @router.post(
        "", summary="Begin a conversation", operation_id="createSession", status_code=201, responses=refusals(409, 503)
    )
    def create(user: Asking, body: SessionRequest | None = None) -> SessionInfo:
        asked = body or SessionRequest(title="", model=None, system=None)
        return _info(store.create(owner(user), title=asked.title, model=asked.model, system=asked.system))

    @router.get(
        "", summary="Your conversations, the last used first", operation_id="listSessions", responses=refusals(503)
    )
    def sessions(user: Asking) -> Sessions:
        return Sessions(sessions=[_info(session) for session in store.list(owner(user))])

    @router.get(
        "/{id}",
        summary="A conversation with all its messages",
        operation_id="getSession",
        responses=refusals(404, 503),
    )
    def session(id: SessionId, user: Asking) -> SessionHistory:  # noqa: A002 (the path's name for it)
        found, messages = store.get(owner(user), id)
        said = [SessionMessage(role=m.role, content=m.content, at=when(m.at), worker=m.worker) for m in messages]
        return SessionHistory(**dict(_info(found)), messages=said)

    @router.delete(
        "/{id}",
        summary="Delete a conversation",
        operation_id="deleteSession",
        status_code=204,
        responses=refusals(404, 503),
    )
    def delete(id: SessionId, user: Asking) -> Response:  # noqa: A002 (the path's name for it)
        store.delete(owner(user), id)
        return Response(status_code=204)

    return router
