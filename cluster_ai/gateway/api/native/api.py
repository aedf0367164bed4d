"""The native API as the gateway has it: what streams is bare ASGI, what is administration is FastAPI."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import MutableMapping
from typing import Any

from starlette.routing import Match, Route

from cluster_ai.gateway.api.http import Receive, Refusal, Scope, Send, read_body, send_whole
from cluster_ai.gateway.api.native import app, page
from cluster_ai.gateway.api.native.answer import Answers
from cluster_ai.gateway.api.native.chat import Chat
from cluster_ai.gateway.api.native.generate import Generate
from cluster_ai.gateway.api.native.kept.sessions import Sessions
from cluster_ai.gateway.api.native.kept.templates import Templates
from cluster_ai.gateway.api.native.parts import PREFIX, Parts
from cluster_ai.gateway.api.native.routing import on_this_host
from cluster_ai.gateway.routing import Handler
from cluster_ai.gateway.trace import Trace

RETENTION = 30 * 24 * 3600.0  # seconds that a session is kept without being used
_HOUR = 3600.0
_BODY_LIMIT = 16 * 1024 * 1024  # of administration; ten thousand tasks at once are the longest


class NativeApi:
    """streaming: handlers by path, each for POST. Everything else below PREFIX is for administer."""

    def __init__(self, parts: Parts) -> None:
        self._app, self._figures = app.build(parts), parts.figures
        self._endpoints: list[Route] = self._app.state.endpoints
        self._sessions = sessions = Sessions(parts.database)
        templates = Templates(parts.database)
        answers = Answers(
            parts.fleet, parts.contexts, parts.meter, parts.gate, parts.settings.limits, on_this_host(parts.settings)
        )
        self.streaming: dict[str, Handler] = {
            f"{PREFIX}/generate": Generate(answers, templates).handle,
            f"{PREFIX}/chat": Chat(answers, sessions, templates).handle,
        }

    async def upkeep(self) -> None:
        """Remembers figures and forgets old sessions, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._figures.keep(), name="figures")
            group.create_task(self._forget(), name="old sessions")

    async def _forget(self) -> None:
        while True:
            with contextlib.suppress(Refusal):  # the disk doesn't take it: the next hour may be better
                await asyncio.to_thread(self._sessions.forget, RETENTION)
            await asyncio.sleep(_HOUR)

    async def administer(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        """Raises Refusal (413), ClientGone."""
        body = await read_body(receive, _BODY_LIMIT)
        scope["request_id"], scope["user"], scope["trace"] = trace.id, trace.user, trace
        unread = True

        async def read() -> MutableMapping[str, Any]:
            nonlocal unread
            if unread:
                unread = False
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        await self._app(scope, read, send)

    def routes(self) -> list[tuple[str, str]]:
        """Method and path, with its gaps, of each that is administration."""
        return [(method, route.path) for route in self._endpoints for method in route.methods or ()]

    def route(self, scope: Scope) -> tuple[str, str] | None:
        """The path of the route that answers, with its gaps, and what fills them; None: none does."""
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        for route in self._endpoints:
            match, found = route.matches(asked)
            if match is Match.FULL:
                return route.path, "/".join(str(value) for value in found["path_params"].values())
        return None

    @staticmethod
    async def page(scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        """The interactive one. It tells nothing by itself, so that it may be shown to anyone, like a login."""
        await send_whole(send, 200, page.PAGE, page.HEADERS)

    @staticmethod
    def name(path: str) -> str:
        """For a metric's label: never what a client made up."""
        noun = path.removeprefix(PREFIX + "/").split("/")[0]
        return f"{PREFIX}/{noun}" if noun in app.NOUNS else "other"
