"""POST /api/v1/chat: the next turn of a conversation that the client brings, or that the gateway keeps as a session."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from cluster_ai.gateway.api.http import Receive, Refusal, Scope, Send, read_body
from cluster_ai.gateway.api.native.answer import (
    EXAMPLE,
    FORMAT,
    MODE,
    OPTIONS,
    STREAM,
    Answers,
    AskedMode,
    Figures,
    parse,
)
from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.generate import TEMPLATE, VARIABLES, given
from cluster_ai.gateway.api.native.kept import sessions as kept
from cluster_ai.gateway.api.native.kept.templates import Templates
from cluster_ai.gateway.api.native.parts import owner
from cluster_ai.gateway.trace import Trace


class ChatMessage(Body):
    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "smollm2", "messages": [{"role": "user", "content": "Why is the sky blue?"}]},
                {
                    "session": "0a1b2c3d4e5f60718293a4b5",
                    "messages": [{"role": "user", "content": "And at dusk?"}],
                    "stream": True,
                },
            ],
            "allOf": [
                {
                    "anyOf": [
                        {"required": ["model"], "properties": {"model": {"type": "string"}}},
                        {"required": ["session"], "properties": {"session": {"type": "string"}}},
                    ]
                },
                {
                    "anyOf": [
                        {
                            "required": ["messages"],
                            "properties": {
                                "messages": {"minItems": 1},
                                "template": {"type": "null"},
                                "variables": {"maxProperties": 0},
                            },
                        },
                        {"required": ["template"], "properties": {"template": {"type": "string"}}},
                    ]
                },
            ],
        },
    )

    model: str | None = Field(None, min_length=1, description="May be absent where the session has one.")
    session: str | None = Field(
        None, description="A session's id: its messages go before these, and this turn is kept in it when it is whole."
    )
    messages: list[ChatMessage] = Field(
        default_factory=list,
        max_length=10_000,
        description="What is new; without a session, all of it.",
    )
    template: str | None = Field(None, description=f"{TEMPLATE} It becomes the user's last message.")
    variables: dict[str, str] = Field(default_factory=dict, description=VARIABLES)
    system: str | None = Field(None, description="In place of the template's, the session's or the model's own.")
    format: Literal["json"] | dict[str, JsonValue] | None = Field(None, description=FORMAT)
    stream: bool = Field(False, description=STREAM)
    options: dict[str, JsonValue] = Field(default_factory=dict, description=OPTIONS)
    mode: AskedMode = Field("auto", description=MODE)


class SessionTurn(BaseModel):
    id: str
    turns: int = Field(description="How many it has with this one.")


class ChatReply(Figures):
    """A whole answer; also the last object of a stream, there with an empty message."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "message": {"role": "assistant", "content": "Because air scatters blue light most."},
                    "session": {"id": "0a1b2c3d4e5f60718293a4b5", "turns": 1},
                    **EXAMPLE,
                }
            ]
        }
    )

    message: ChatMessage
    session: SessionTurn | None = Field(description="null: the turn isn't kept.")


@dataclass(frozen=True, slots=True)
class _Kept:
    """The session that a turn belongs to."""

    store: kept.Sessions
    owner: str
    id: str
    turn: int


@dataclass(frozen=True, slots=True)
class _Turn:
    asked: ChatRequest
    model: str
    messages: tuple[dict[str, str], ...]  # all, for the engine
    new: tuple[kept.Message, ...]
    kept: _Kept | None
    path: str = "/api/chat"

    @property
    def body(self) -> dict[str, Any]:
        return given(messages=list(self.messages), format=self.asked.format)

    @property
    def options(self) -> dict[str, Any]:
        return self.asked.options

    @property
    def length(self) -> int:
        return sum(len(message["content"]) for message in self.messages)

    @property
    def streams(self) -> bool:
        return self.asked.stream

    @property
    def mode(self) -> AskedMode:
        return self.asked.mode

    @property
    def keeps(self) -> bool:
        return self.kept is not None

    def piece(self, line: dict[str, Any]) -> str:
        message = line.get("message")
        return str(message.get("content") or "") if isinstance(message, dict) else ""

    async def keep(self, text: str, worker: str) -> None:
        if self.kept is not None:
            whole = (*self.new, kept.Message("assistant", text, worker=worker))
            it = self.kept
            await asyncio.to_thread(it.store.append, it.owner, it.id, it.turn, whole)

    def reply(self, text: str, figures: Figures) -> ChatReply:
        session = SessionTurn(id=self.kept.id, turns=self.kept.turn) if self.kept is not None else None
        return ChatReply(message=ChatMessage(role="assistant", content=text), session=session, **dict(figures))


class Chat:
    def __init__(self, answers: Answers, sessions: kept.Sessions, templates: Templates) -> None:
        self._answers, self._sessions, self._templates = answers, sessions, templates
        self._busy: set[str] = set()  # sessions with a turn under way

    async def handle(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        """Answers the request, or raises Refusal before anything was sent, or ClientGone."""
        asked = parse(await read_body(receive, self._answers.max_body), ChatRequest)
        if asked.session is None:
            await self._answers.give(await self._turn(asked, trace), receive, send, trace)
            return
        if asked.session in self._busy:
            raise Refusal(409, "session_busy", "another turn of this session is being answered")
        self._busy.add(asked.session)
        try:
            await self._answers.give(await self._turn(asked, trace), receive, send, trace)
        finally:
            self._busy.discard(asked.session)

    async def _turn(self, asked: ChatRequest, trace: Trace) -> _Turn:
        whose, system = owner(trace.user), asked.system
        new = [kept.Message(message.role, message.content) for message in asked.messages]
        if asked.template is not None:
            template = await asyncio.to_thread(self._templates.get, whose, asked.template)
            filled = template.fill(asked.variables)
            new.append(kept.Message("user", filled.text))
            system = filled.system if system is None else system
        elif asked.variables:
            raise Refusal(400, "invalid_request", "variables: only with a template")
        if not new:
            raise Refusal(400, "message_required", "give messages, or a template")
        model, session = asked.model, None
        before: tuple[kept.Message, ...] = ()
        if asked.session is not None:
            found, said = await asyncio.to_thread(self._sessions.get, whose, asked.session)
            model, before = asked.model or found.model, said
            system = found.system if system is None else system
            session = _Kept(self._sessions, whose, found.id, found.turns + 1)
        if model is None:
            raise Refusal(400, "model_required", "model is required: neither the request nor its session names one")
        first = () if system is None else (kept.Message("system", system),)
        messages = tuple({"role": m.role, "content": m.content} for m in (*first, *before, *new))
        return _Turn(asked, model, messages, tuple(new), session)
