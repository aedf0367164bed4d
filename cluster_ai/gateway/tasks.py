"""Asks the task manager, which is a process of its own on this host, over its Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from cluster_ai.gateway.api.http import Refusal

PATIENCE = 15.0  # seconds in which a manager that is started anew is asked again
TIMEOUT = 30.0
_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_read=TIMEOUT)
_RETRY_AFTER = (b"retry-after", b"5")


class TaskManager:
    """socket None: this cluster has none. `async with` ends its connections."""

    def __init__(self, socket: Path | None) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> TaskManager:
        if self._socket is not None:
            connector = aiohttp.UnixConnector(str(self._socket))
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def there(self) -> bool:
        """Whether this cluster has one."""
        return self._socket is not None

    async def ask(self, method: str, path: str, params: Mapping[str, str], body: Any = None) -> Any:
        """What it answers. Raises Refusal: its own, or 503 when it is away.

        Asked again while it is started anew: a question that found no connection was never heard.
        """
        if self._session is None:
            raise Refusal(503, "no_tasks", "this cluster runs no tasks")
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        return await self._ask(self._session, method, path, params, body)
                    except aiohttp.ClientConnectionError as e:
                        if method != "GET" and not isinstance(e, aiohttp.ClientConnectorError):
                            raise Refusal(503, "tasks_away", "the task manager broke off; ask what became of it") from e
                        await asyncio.sleep(0.2)
        except (aiohttp.ClientPayloadError, ValueError) as e:
            raise Refusal(503, "tasks_away", "the task manager broke off; ask what became of it") from e
        except TimeoutError:
            raise Refusal(503, "tasks_away", "the task manager doesn't answer now", [_RETRY_AFTER]) from None

    async def upload(self, path: str, params: Mapping[str, str], kind: str, pieces: AsyncIterator[bytes]) -> Any:
        """A form, as it comes from a client. Raises Refusal, and what pieces raises."""
        if self._session is None:
            raise Refusal(503, "no_tasks", "this cluster runs no tasks")
        try:
            async with self._session.post(
                f"http://tasks{path}", params=params, data=pieces, headers={"content-type": kind}, timeout=_NO_LIMIT
            ) as reply:
                return await self._said(reply)
        except aiohttp.ClientConnectionError as e:
            raise Refusal(503, "tasks_away", "the task manager broke off; send it again", [_RETRY_AFTER]) from e

    @contextlib.asynccontextmanager
    async def content(
        self, path: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A file, or the part of it that a Range among the headers says, to be read piece by piece. Raises Refusal."""
        if self._session is None:
            raise Refusal(503, "no_tasks", "this cluster runs no tasks")
        try:
            reply = await self._session.get(f"http://tasks{path}", params=params, headers=headers, timeout=_NO_LIMIT)
        except aiohttp.ClientConnectionError as e:
            raise Refusal(503, "tasks_away", "the task manager doesn't answer now", [_RETRY_AFTER]) from e
        async with reply:
            if reply.status == 416:
                raise Refusal(416, "range_not_satisfiable", "the file ends before this range begins")
            if reply.status >= 400:
                await self._said(reply)
            yield reply

    @classmethod
    async def _ask(
        cls, session: aiohttp.ClientSession, method: str, path: str, params: Mapping[str, str], body: Any
    ) -> Any:
        async with session.request(method, f"http://tasks{path}", params=params, json=body) as reply:
            return await cls._said(reply)

    @staticmethod
    async def _said(reply: aiohttp.ClientResponse) -> Any:
        said = await reply.json(content_type=None) if reply.status < 500 else {}
        if reply.status >= 500:
            raise Refusal(500, "tasks_fault", "a fault of the task manager; its log has it")
        if reply.status >= 400:
            raise Refusal(reply.status, str(said["code"]), str(said["message"]))
        return said
