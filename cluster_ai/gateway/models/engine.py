"""One worker's engine, asked to change its models. It may take as long as it wants while the worker is seen alive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from cluster_ai.engine.client import EngineClient, EngineError
from cluster_ai.gateway.fleet import Fleet, State, Worker
from cluster_ai.gateway.models.blobs import read

T = TypeVar("T")

LOOK = 2.0  # seconds of silence after which the worker's health is looked at
CHECK = 4.0  # seconds that the engine may take to list its models
_LINE_LIMIT = 1024 * 1024
_HEADERS = {"content-type": "application/json"}
_BROKEN = (aiohttp.ClientError, OSError, TimeoutError)


class FailedError(Exception):
    """The engine refused, or was lost."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Engine:
    """Every method raises FailedError."""

    def __init__(self, worker: Worker, fleet: Fleet, client: aiohttp.ClientSession) -> None:
        self.worker, self._fleet, self._client = worker, fleet, client

    async def call(self, method: str, path: str, body: bytes) -> None:
        try:
            reply = await self._patiently(
                self._client.request(method, self.worker.url(path), data=body, headers=_HEADERS, allow_redirects=False)
            )
            async with reply:
                await self._good(reply)
                await self._patiently(reply.read())
        except _BROKEN as e:
            raise _lost(e) from e

    async def follow(self, path: str, body: bytes) -> AsyncIterator[Mapping[str, Any]]:
        """What the engine tells of a long work, up to its success."""
        done = False
        try:
            reply = await self._patiently(
                self._client.post(self.worker.url(path), data=body, headers=_HEADERS, allow_redirects=False)
            )
            async with reply:
                await self._good(reply)
                rest = b""
                while piece := await self._patiently(reply.content.readany()):
                    *lines, rest = (rest + piece).split(b"\n")
                    if len(rest) > _LINE_LIMIT:
                        raise FailedError(502, "it answers a line that never ends")
                    for line in filter(None, lines):
                        said = _object(line)
                        if "error" in said:
                            raise FailedError(502, str(said["error"]))
                        done = said.get("status") == "success"
                        if not done:
                            yield said
        except _BROKEN as e:
            raise _lost(e) from e
        if not done:
            raise FailedError(502, "its answer ended before the work was done")

    async def has_blob(self, digest: str) -> bool:
        try:
            reply = await self._patiently(
                self._client.head(self.worker.url(f"/api/blobs/{digest}"), allow_redirects=False)
            )
        except _BROKEN as e:
            raise _lost(e) from e
        async with reply:
            if reply.status == 404:
                return False
            await self._good(reply)
            return True

    async def send_blob(self, digest: str, path: Path) -> AsyncIterator[int]:
        """Yields how many bytes have gone. The engine checks the hash."""
        sent: asyncio.Queue[int | None] = asyncio.Queue()
        size = (await asyncio.to_thread(path.stat)).st_size

        async def content() -> AsyncIterator[bytes]:
            gone = 0
            async for piece in read(path):
                yield piece
                gone += len(piece)
                sent.put_nowait(gone)

        async def post() -> None:
            try:
                headers = {"content-length": str(size)}
                url = self.worker.url(f"/api/blobs/{digest}")
                async with self._client.post(url, data=content(), headers=headers, allow_redirects=False) as reply:
                    await self._good(reply)
            finally:
                sent.put_nowait(None)

        posting = asyncio.create_task(post(), name=f"blob:{self.worker.name}")
        try:
            while (gone := await self._patiently(sent.get())) is not None:
                yield gone
            await posting
        except _BROKEN as e:
            raise _lost(e) from e
        finally:
            posting.cancel()
            await asyncio.gather(posting, return_exceptions=True)

    async def refresh(self) -> None:
        """What it has now, before a health check would see it."""
        try:
            state = await EngineClient(self._client, self.worker.upstream.url, timeout=CHECK).state()
        except EngineError:
            self.worker.suspect.set()
        else:
            self._fleet.answered(self.worker, state)

    async def _patiently(self, work: Awaitable[T]) -> T:
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=LOOK))[0]:
                if self.worker.state is State.DOWN:
                    raise FailedError(502, f"it went down: {self.worker.reason}")
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    @staticmethod
    async def _good(reply: aiohttp.ClientResponse) -> None:
        if reply.status < 300:
            return
        body = await reply.content.read(64 * 1024)
        reason = _object(body).get("error") or body.decode(errors="replace").strip()[:200]
        if reply.status in (301, 302, 307, 308):
            reason = "it answers a redirection"
        raise FailedError(reply.status if reply.status >= 400 else 502, str(reason or f"it answers {reply.status}"))


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _lost(error: BaseException) -> FailedError:
    if isinstance(error, aiohttp.ClientConnectorError):
        return FailedError(502, f"can't connect: {error.os_error.strerror or error.os_error}")
    return FailedError(502, f"the connection broke: {error or type(error).__name__}")
