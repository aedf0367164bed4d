"""A gateway in this process before one worker that says what a script has it say, byte by byte; what either of them
leaves behind is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from cluster_ai.gateway.log import Log
from cluster_ai.gateway.server import Credentials, serve
from cluster_ai.settings import GatewaySettings, LimitSettings, Upstream
from tests.fakes.upstream import LAST, LINE
from tests.rig.processes import PATIENCE

TOKEN = "b7e151628aed2a6a"
SECRET = {"authorization": f"Bearer {TOKEN}"}
ASK = {"model": "fake", "prompt": "x"}
BODY_LIMIT = 4 * 1024 * 1024
HEAD = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer b7e151628aed2a6a\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


ANSWER = CHUNKS + chunk(LINE) + chunk(LINE) + chunk(LAST) + b"0\r\n\r\n"


@dataclass
class Worker:
    """Answers checks; to what is asked of it, as its script says, and when that is used up, as it should."""

    script: list[bytes | Script] = field(default_factory=list)
    asked: list[tuple[bytes, bytes]] = field(default_factory=list)  # heads and bodies
    connections: int = 0
    port: int = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connections -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        size = next((int(it[15:]) for it in head.lower().split(b"\r\n") if it.startswith(b"content-length:")), 0)
        body = await reader.readexactly(size)
        if head.startswith(b"GET"):
            told = json.dumps(_CHECKS[head.split(b" ")[1].decode()]).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(told))
            writer.write(told)
            return True
        self.asked.append((head, body))
        act = self.script.pop(0) if self.script else ANSWER
        if callable(act):
            await act(reader, writer)
            return False
        writer.write(act)
        await writer.drain()
        return act is ANSWER


_CHECKS: dict[str, Any] = {
    "/api/version": {"version": "0.17.4"},
    "/api/ps": {"models": []},
    "/api/tags": {"models": [{"name": "fake:latest", "size": 1, "digest": "d", "modified_at": "2026-01-01T00:00:00Z"}]},
}


@dataclass
class Site:
    port: int
    client: aiohttp.ClientSession
    log: io.StringIO
    worker: Worker

    async def ask(self, path: str = "/api/generate", **changed: Any) -> tuple[int, bytes]:
        async with self.client.post(path, json={**ASK, **changed}, headers=SECRET) as reply:
            return reply.status, await reply.read()

    async def send(self, body: bytes, path: str = "/api/generate") -> tuple[int, bytes]:
        async with self.client.post(path, data=io.BytesIO(body), headers=SECRET) as reply:
            return reply.status, await reply.read()

    async def talk(self, *pieces: bytes) -> bytes:
        """Over a connection of its own, until the gateway closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        return answer

    async def works(self) -> None:
        assert await self.ask(stream=True) == (200, LINE + LINE + LAST)

    async def in_flight(self) -> float:
        async with self.client.get("/metrics", headers=SECRET) as reply:
            lines = (await reply.text()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("gateway_in_flight{"))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (it becomes true in another task)
            await asyncio.sleep(0.02)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.asynccontextmanager
async def site(*script: bytes | Script) -> AsyncIterator[Site]:
    """The gateway, in this process, before one worker. At the end nothing may be under way any more."""
    worker, text, started = Worker(), io.StringIO(), asyncio.Event()
    server = await asyncio.start_server(worker.accept, "127.0.0.1", 0)
    worker.port = server.sockets[0].getsockname()[1]
    told = GatewaySettings(
        cluster="abuse",
        host="127.0.0.1",
        port=0,
        policy="affinity",
        trusted_networks=(),
        scheduler="tcp://127.0.0.1:9",
        upstreams=(Upstream("w1", f"http://127.0.0.1:{worker.port}", ("fake",), 4, 0),),
        models={"fake": 2048},
        limits=LimitSettings(max_body=BODY_LIMIT),
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    handler = signal.signal(signal.SIGTERM, lambda *_: None)  # the gateway raises it anew at its end
    running = asyncio.create_task(serve(told, Credentials(TOKEN, None), [listener], None, Log(text), started.set))
    try:
        await until(lambda: started.is_set() or running.done())
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            timeout=aiohttp.ClientTimeout(total=PATIENCE),
            connector=aiohttp.TCPConnector(force_close=True),
        ) as client:
            here = Site(port, client, text, worker)
            await here.works()
            worker.asked.clear()
            before, open_before = len(asyncio.all_tasks()), descriptors()
            worker.script[:] = script
            yield here
            worker.script.clear()
            await here.works()  # whatever was done to it, it serves the next one
            await until(lambda: len(asyncio.all_tasks()) <= before)
            await until(lambda: descriptors() <= open_before)
            assert await here.in_flight() == 0
    finally:
        if not running.done():
            signal.raise_signal(signal.SIGTERM)
        await running
        signal.signal(signal.SIGTERM, handler)
        server.close()
        await until(lambda: not worker.connections)
    assert "Traceback" not in text.getvalue()


def told_nothing(answer: bytes, here: Site) -> None:
    """No address of a worker, no trace of a program, no token."""
    for secret in (TOKEN, str(here.worker.port), "Traceback", ".py", "cluster_ai", "0x"):
        assert secret.encode() not in answer
