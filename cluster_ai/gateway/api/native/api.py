"""The native API as the gateway has it: what streams is bare ASGI, what is administration is FastAPI."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from cluster_ai.gateway.api.http import Receive, Scope, Send, read_body
from cluster_ai.gateway.api.native import app
from cluster_ai.gateway.api.native.answer import Answers
from cluster_ai.gateway.api.native.chat import Chat
from cluster_ai.gateway.api.native.generate import Generate
from cluster_ai.gateway.api.native.kept.sessions import Sessions
from cluster_ai.gateway.api.native.kept.templates import Templates
from cluster_ai.gateway.api.native.parts import PREFIX, Parts
from cluster_ai.gateway.api.native.routing import on_this_host
from cluster_ai.gateway.routing import Handler
from cluster_ai.gateway.trace import Trace

_BODY_LIMIT = 1024 * 1024  # of administration, where nothing is long


class NativeApi:
    """streaming: handlers by path, each for POST. Everything else below PREFIX is for administer."""

    def __init__(self, parts: Parts) -> None:
        self._app = app.build(parts)
        sessions, templates = Sessions(parts.database), Templates(parts.database)
        answers = Answers(parts.fleet, parts.relay, parts.meter, on_this_host(parts.settings))
        self.streaming: dict[str, Handler] = {
            f"{PREFIX}/generate": Generate(answers, templates).handle,
            f"{PREFIX}/chat": Chat(answers, sessions, templates).handle,
        }

    async def administer(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        """Raises Refusal (413), ClientGone."""
        body = await read_body(receive, _BODY_LIMIT)
        scope["request_id"], scope["user"] = trace.id, trace.user
        unread = True

        async def read() -> MutableMapping[str, Any]:
            nonlocal unread
            if unread:
                unread = False
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        await self._app(scope, read, send)

    @staticmethod
    def name(path: str) -> str:
        """For a metric's label: never what a client made up."""
        noun = path.removeprefix(PREFIX + "/").split("/")[0]
        return f"{PREFIX}/{noun}" if noun in app.NOUNS else "other"
