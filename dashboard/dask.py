"""Dask's own pages behind the dashboard's login: /dask/... of this server, passed on to the scheduler on loopback.

Dask asks nobody who they are, and its pages show everybody's tasks. A browser can't send a session's token with a link
either: so a page of the dashboard that knows who looks gives out a ticket, good for one use, and who comes with it gets
a cookie for these paths alone. Only reading is passed on. Dask's links are relative, so that nothing is rewritten.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from yarl import URL

PATH = "/dask"
TICKET = 120.0  # seconds in which a link is good; the page that has it draws another one every few seconds
PASS = 3600.0  # seconds that a cookie is good for; the pages then are asked for anew
_COOKIE = "cluster_ai_dask"
_OLD = "This link is old, or was used already: open Dask's pages anew, from the dashboard's page of tasks."
_KEPT_BACK = frozenset(("connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"))
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Grant:
    session: str  # of the dashboard, with whose end it ends
    end: float


@dataclass
class Passes:
    """Who may see Dask's pages until when; in this process's memory only."""

    clock: Callable[[], float] = time.monotonic
    _tickets: dict[str, _Grant] = field(default_factory=dict)
    _cookies: dict[str, _Grant] = field(default_factory=dict)

    def ticket(self, session: str) -> str:
        return self._given(self._tickets, session, TICKET)

    def cookie(self, ticket: str) -> str | None:
        """For a ticket that is good, which then is used up."""
        grant = self._tickets.pop(ticket, None)
        return self._given(self._cookies, grant.session, PASS) if grant and grant.end > self.clock() else None

    def left(self, cookie: str) -> float:
        """Seconds; 0: it isn't good."""
        grant = self._cookies.get(cookie)
        return max(0.0, grant.end - self.clock()) if grant else 0.0

    def end(self, session: str) -> None:
        """Its person has signed out. A page that is open stays so until it is closed."""
        for kept in (self._tickets, self._cookies):
            for name in [name for name, grant in kept.items() if grant.session == session]:
                del kept[name]

    def _given(self, kept: dict[str, _Grant], session: str, life: float) -> str:
        now = self.clock()
        for old in [name for name, grant in kept.items() if grant.end < now]:
            del kept[old]
        name = secrets.token_urlsafe(32)
        kept[name] = _Grant(session, now + life)
        return name


PASSES = Passes()  # of the pages, which give tickets out, and of the routes, which take them: both in this process


def link(session: str) -> str:
    """For one use, by one who may."""
    return f"{PATH}/open?ticket={PASSES.ticket(session)}"


def routes(dask_url: str, passes: Passes = PASSES) -> list[BaseRoute]:
    """dask_url: of the scheduler's HTTP server."""
    proxy = _Proxy(dask_url.rstrip("/"), passes)
    return [
        Route(f"{PATH}/open", proxy.enter, methods=["GET"]),
        Route(PATH + "/{path:path}", proxy.page, methods=["GET"]),
        WebSocketRoute(PATH + "/{path:path}", proxy.socket),
    ]


class _Proxy:
    def __init__(self, url: str, passes: Passes) -> None:
        self._url, self._passes = url, passes

    async def enter(self, request: Request) -> Response:
        cookie = self._passes.cookie(request.query_params.get("ticket", ""))
        if cookie is None:
            return PlainTextResponse(_OLD, 403)
        answer = RedirectResponse(f"{PATH}/status", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(_COOKIE, cookie, int(PASS), path=PATH, secure=secure, httponly=True, samesite="strict")
        return answer

    async def page(self, request: Request) -> Response:
        at = self._at(request)
        if not self._left(request) or at is None:
            return PlainTextResponse(_OLD, 403)
        client = aiohttp.ClientSession(auto_decompress=False)
        try:
            answer = await client.get(at, headers=_asked(request), allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError):
            await client.close()
            return PlainTextResponse("Dask's scheduler doesn't answer: `systemctl status cluster-ai-scheduler`.", 502)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _KEPT_BACK}
        if encoding := answer.headers.get("Content-Encoding"):
            kept["Content-Encoding"] = encoding
        if (where := kept.get("Location", "")).startswith("/"):
            kept["Location"] = PATH + where

        async def body() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.content.iter_chunked(_PIECE):
                    yield piece
            finally:
                await client.close()

        return StreamingResponse(body(), answer.status, kept)

    async def socket(self, socket: WebSocket) -> None:
        """Both directions: Bokeh's session tells what is drawn; what it is told (a zoom, a hover) changes no task."""
        left, at = self._left(socket), self._at(socket)
        if not left or at is None or not _same_origin(socket):
            await socket.close(4403)
            return
        names = [it.strip() for it in socket.headers.get("sec-websocket-protocol", "").split(",") if it.strip()]
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with (
                aiohttp.ClientSession() as client,
                client.ws_connect(at, protocols=names, max_msg_size=0) as there,
            ):
                await socket.accept(there.protocol)
                ways = {asyncio.create_task(_onward(socket, there)), asyncio.create_task(_back(there, socket))}
                await asyncio.wait(ways, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # who left needs no goodbye
            await socket.close()

    def _left(self, asking: HTTPConnection) -> float:
        return self._passes.left(asking.cookies.get(_COOKIE, ""))

    def _at(self, asking: HTTPConnection) -> URL | None:
        """As it will be asked for: without `./`, `../` and the like. None: it is Dask's way to other servers."""
        query = asking.url.query
        at = URL(f"{self._url}/{asking.path_params['path']}" + (f"?{query}" if query else ""))
        return None if "proxy" in at.path.split("/") else at


async def _onward(socket: WebSocket, there: aiohttp.ClientWebSocketResponse) -> None:
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        if message.get("text") is not None:
            await there.send_str(message["text"])
        else:
            await there.send_bytes(message["bytes"])


async def _back(there: aiohttp.ClientWebSocketResponse, socket: WebSocket) -> None:
    async for message in there:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_text(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data)


def _asked(request: Request) -> dict[str, str]:
    """No cookie, no token goes on."""
    return {name: request.headers[name] for name in ("accept", "accept-encoding") if name in request.headers}


def _same_origin(socket: WebSocket) -> bool:
    return urlsplit(socket.headers.get("origin", "")).netloc == socket.headers.get("host")
