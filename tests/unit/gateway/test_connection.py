"""What a client may do to its connection, tried on a server whose application answers at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from cluster_ai.gateway import connection
from cluster_ai.gateway.connection import Connection
from tests.rig.processes import PATIENCE

HOST = b"Host: x\r\n"
CHUNKED = b"POST /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Served:
    """What the application was asked, and by which means a test reaches it. early: it answers before it reads."""

    port: int
    early: bool = False
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    gone: int = 0  # clients that left before their answer's end
    running: int = 0
    sent: int = 0
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    server: uvicorn.Server | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.running += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            self.running -= 1

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", not self.early
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            body, more = body + message["body"], message["more_body"]
        self.asked.append((scope["path"], body))
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            waiting = asyncio.ensure_future(receive())
            resumed = asyncio.ensure_future(self.go_on.wait())
            await asyncio.wait((waiting, resumed), return_when=asyncio.FIRST_COMPLETED)
            resumed.cancel()
            if waiting.done():
                self.gone += 1
                return
            waiting.cancel()
            await send({"type": "http.response.body", "body": b"two", "more_body": False})
            return
        if scope["path"] == "/flood":
            await self._flood(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def _flood(self, receive: Any, send: Any) -> None:
        """As much as is taken."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        leaving = asyncio.ensure_future(receive())
        while not leaving.done():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            self.sent += 65536
            await asyncio.sleep(0)
        self.gone += 1

    def tick(self, seconds: int) -> None:
        assert self.server is not None
        for _ in range(seconds):
            for it in list(self.server.server_state.connections):
                assert isinstance(it, Connection)
                it.tick()

    async def talk(self, *pieces: bytes) -> bytes:
        """All that comes until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        return answer


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (it becomes true in another task)
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(*, early: bool = False) -> AsyncIterator[Served]:
    listener = socket.create_server(("127.0.0.1", 0))
    served = Served(listener.getsockname()[1], early)
    config = uvicorn.Config(served, http=Connection, loop="none", ws="none", lifespan="off", log_config=None)
    served.server = server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([listener]))
    try:
        await until(lambda: server.started)
        yield served
    finally:
        server.should_exit = True
        await task
    assert not served.running


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
AMBIGUOUS = {
    "a length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": POST + b"Content-Length: -3\r\n\r\nabc",
    "a length beyond all numbers": POST + b"Content-Length: 99999999999999999999\r\n\r\nabc",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "gzip in chunks": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": POST + b"Content-Length : 3\r\n\r\nabc",
    "a folded header": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\r\n b\r\n\r\n",
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: x\n\n",
    "one bare line feed": b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "a bare carriage return": b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "a NUL in a value": b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    "a NUL in a name": b"GET / HTTP/1.1\r\nHost: x\r\nX\x00: ab\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: x\r\nFoo\r\n\r\n",
    "a tunnel": b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a chunk that is longer than it says": CHUNKED + b"3\r\nabcX\r\n0\r\n\r\n",
    "chunks with bare line feeds": CHUNKED + b"3\nabc\n0\n\n",
    "a length in a trailer": CHUNKED + b"3\r\nabc\r\n0\r\nContent-Length: 4\r\n\r\n",
}


async def test_what_two_readers_could_understand_in_two_ways_is_refused_and_reaches_nobody() -> None:
    async with serving() as served:
        answers = await asyncio.gather(*(served.talk(request) for request in AMBIGUOUS.values()))
        assert {name: status(answer) for name, answer in zip(AMBIGUOUS, answers, strict=True)} == {
            **dict.fromkeys(AMBIGUOUS, 400),
            **dict.fromkeys(("an unknown coding", "gzip in chunks", "chunks in HTTP/1.0"), 501),
        }
        assert all(answer.count(b"\r\n\r\n") == 1 for answer in answers)
        assert served.asked == []


async def test_a_refusal_that_comes_before_routing_has_each_apis_form() -> None:
    async with serving() as served:
        answer = await served.talk(b"GET /v1/models HTTP/1.1\r\n\r\n")
        assert b'{"error":{"message":"a request has one Host header"' in answer
        answer = await served.talk(b"GET /api/tags HTTP/1.1\r\n\r\n")
        assert b'{"error":"a request has one Host header"}' in answer


@pytest.mark.parametrize("extension", [b"", b";a=b", b';a="b c"'], ids=["none", "plain", "quoted"])
async def test_chunks_are_put_together_whatever_their_extensions_say(extension: bytes) -> None:
    async with serving() as served:
        await served.talk(CHUNKED + b"3%b\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: a\r\n\r\n" % extension)
        assert served.asked == [("/end", b"abcde")]


async def test_a_target_that_names_a_host_is_read_as_its_path() -> None:
    async with serving() as served:
        await served.talk(b"GET http://elsewhere/end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert served.asked == [("/end", b"")]


async def test_a_head_has_a_limit_in_bytes_and_in_headers() -> None:
    async with serving() as served:
        for head in (
            b"GET /" + b"a" * connection.HEAD_LIMIT + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * connection.HEAD_LIMIT + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * connection.HEADERS_LIMIT + b"\r\n",
        ):
            assert status(await served.talk(head)) == 431
        assert served.asked == []


async def test_a_head_without_end_is_refused_before_it_ends() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        answer = asyncio.create_task(reader.read())
        with contextlib.suppress(ConnectionError):
            while not answer.done():
                writer.write(b"a" * 16384)
                await writer.drain()
                await asyncio.sleep(0)
        assert status(await answer) == 431
        writer.close()


async def test_a_head_that_trickles_is_refused_in_time_and_one_that_comes_isnt() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /end HTTP/1.1\r\n")
        assert served.server is not None
        connections = served.server.server_state.connections
        await until(lambda: any(c._phase is connection._Phase.HEAD for c in connections))  # type: ignore[union-attr]
        served.tick(connection.HEAD_WITHIN - 2)
        writer.write(b"Host: x\r\nConnection: close\r\n\r\n")
        assert status(await reader.read()) == 200
        writer.close()

        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /end HTTP/1.1\r\n")
        await until(lambda: any(c._phase is connection._Phase.HEAD for c in connections))  # type: ignore[union-attr]
        for _ in range(connection.HEAD_WITHIN + 1):
            writer.write(b"X: y\r\n")
            await writer.drain()
            served.tick(1)
        assert status(await reader.readuntil(b"\r\n")) == 408
        served.tick(connection.DISCARDED_FOR + 1)
        await reader.read()
        writer.close()


async def test_a_body_that_trickles_is_refused_in_time() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /end HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        await until(lambda: served.running)
        for _ in range(connection.BODY_PATIENCE + 2):
            writer.write(b"x")
            await writer.drain()
            served.tick(1)
        assert status(await reader.readuntil(b"\r\n")) == 408
        await until(lambda: served.gone == 1 and not served.running)
        writer.close()


async def test_a_body_that_keeps_coming_may_take_its_time() -> None:
    size = connection.BODY_RATE * connection.BODY_PATIENCE * 3
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
        assert served.server is not None
        (own,) = await _connections(served)
        for _ in range(connection.BODY_PATIENCE * 3):
            before = own._received
            writer.write(b"x" * connection.BODY_RATE)
            await writer.drain()
            await until(lambda before=before: own._received >= before + connection.BODY_RATE)  # type: ignore[misc]
            served.tick(1)
        assert status(await reader.read()) == 200
        assert len(served.asked[0][1]) == size
        writer.close()


async def _connections(served: Served) -> list[Connection]:
    assert served.server is not None
    state = served.server.server_state
    await until(lambda: state.connections)
    return [it for it in state.connections if isinstance(it, Connection)]


async def test_an_answer_given_before_the_request_was_read_reaches_the_client() -> None:
    async with serving(early=True) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /end HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(100):
            writer.write(b"x" * 100000)
            await writer.drain()
        answer = await reader.read()
        assert status(answer) == 200
        assert b"connection: close" in answer
        served.tick(connection.DISCARDED_FOR + 1)
        await until(lambda: served.server and not served.server.server_state.connections)
        writer.close()


async def test_pipelined_requests_are_answered_in_turn_and_none_after_one_that_closes() -> None:
    async with serving() as served:
        served.go_on.set()
        ask = b"GET /%b HTTP/1.1\r\nHost: x\r\n%b\r\n"
        close = b"Connection: close\r\n"
        answer = await served.talk(ask % (b"stream", b"") + ask % (b"end", close) + ask % (b"never", b""))
        assert answer.count(b"HTTP/1.1 200") == 2
        assert [path for path, _ in served.asked] == ["/stream", "/end"]


async def test_garbage_behind_a_request_neither_breaks_its_answer_nor_gets_one() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n\x00garbage\r\n\r\n")
        await reader.readuntil(b"one")
        served.go_on.set()
        assert (await reader.read()).endswith(b"two\r\n0\r\n\r\n")
        writer.close()


async def test_a_client_that_leaves_ends_what_it_asked_for_first_too() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        await reader.readuntil(b"one")
        writer.close()
        await until(lambda: served.gone == 1 and not served.running)
        assert len(served.asked) == 1


async def test_an_http_1_0_client_gets_no_chunks() -> None:
    async with serving() as served:
        served.go_on.set()
        answer = await served.talk(b"GET /stream HTTP/1.0\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert body == b"onetwo"
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head


async def test_a_wish_for_another_protocol_is_answered_in_this_one() -> None:
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nContent-Length: 3\r\n\r\nabc"
    async with serving() as served:
        assert status(await served.talk(b"POST /end HTTP/1.1\r\nHost: x\r\n" + wish)) == 200
        assert served.asked == [("/end", b"abc")]


async def test_a_client_that_stops_reading_stops_the_answer_and_is_left_in_time() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=4096)
        writer.write(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        (own,) = await _connections(served)
        await until(lambda: own.flow is not None and own.flow.write_paused)
        assert own.transport.get_write_buffer_size() < 1024 * 1024
        served.tick(connection.UNREAD_WITHIN + 1)
        await until(lambda: served.gone == 1)
        assert not reader.at_eof()
        writer.close()


async def test_a_connection_without_a_request_has_an_end() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"\r\n")  # what a parser skips isn't a request
        (own,) = await _connections(served)
        await until(lambda: own._received)
        served.tick(connection.KEEP_ALIVE + 1)
        assert await reader.read() == b""
        writer.close()


async def test_when_all_connections_are_taken_an_idle_one_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "most_connections", lambda: 2)
    async with serving() as served:
        streams = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"one")
            streams.append((reader, writer))
        assert status(await served.talk(b"")) == 503
        served.go_on.set()
        await streams[0][0].readuntil(b"0\r\n\r\n")
        served.tick(1)
        answer = await served.talk(b"GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status(answer) == 200
        for _, writer in streams:
            writer.close()
