"""How workers are asked, tried on a server that sends what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from yarl import URL

from cluster_ai.gateway import wire
from cluster_ai.gateway.wire import Answer, BrokenError, UnreachableError, Wire
from tests.rig.processes import PATIENCE, free_port

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CHUNKS = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Worker:
    """script: what is sent after each request. connections and asked: what it saw."""

    script: list[bytes | Script]
    url: URL = field(default_factory=URL)
    connections: int = 0
    asked: list[bytes] = field(default_factory=list)
    ended: int = 0


@contextlib.asynccontextmanager
async def worker(*script: bytes | Script) -> AsyncIterator[tuple[Worker, Wire]]:
    state = Worker(list(script))
    writers: set[asyncio.StreamWriter] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                state.asked.append(head + await reader.readexactly(length))
                act = state.script.pop(0)
                if isinstance(act, bytes):
                    writer.write(act)
                    await writer.drain()
                else:
                    await act(reader, writer)
        state.ended += 1
        writers.discard(writer)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    state.url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/chat")
    out = Wire()
    try:
        yield state, out
    finally:
        await out.aclose()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await until(lambda: not writers)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (it becomes true in another task)
            await asyncio.sleep(0.01)


async def whole(answer: Answer) -> bytes:
    async with asyncio.timeout(PATIENCE):
        pieces = []
        while piece := await answer.readany():
            pieces.append(piece)
    assert answer.at_eof()
    return b"".join(pieces)


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def then_close(data: bytes) -> Script:
    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return act


async def test_a_request_says_what_an_engine_needs_and_nothing_else() -> None:
    async with worker(OK) as (state, out):
        answer = await out.post(state.url, b'{"a":1}')
        assert (answer.status, answer.headers.get("Content-Type")) == (200, "application/json")
        assert await whole(answer) == b"{}"
        head, _, body = state.asked[0].partition(b"\r\n\r\n")
        told = (f"Host: 127.0.0.1:{state.url.port}", "Content-Type: application/json", "Content-Length: 7")
        assert head.decode() == "\r\n".join(("POST /api/chat HTTP/1.1", *told))
        assert body == b'{"a":1}'


async def test_a_connection_is_kept_for_the_next_request_and_two_at_once_have_two() -> None:
    async with worker(OK, OK, OK, OK) as (state, out):
        for _ in range(2):
            await whole(await out.post(state.url, b"{}"))
        assert state.connections == 1
        both = await asyncio.gather(out.post(state.url, b"{}"), out.post(state.url, b"{}"))
        assert [await whole(it) for it in both] == [b"{}", b"{}"]
        assert state.connections == 2


async def test_pieces_come_as_they_are_sent() -> None:
    go_on = asyncio.Event()

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKS + b"3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with worker(act) as (state, out):
        answer = await out.post(state.url, b"{}")
        assert await answer.readany() == b"one"
        assert not answer.at_eof()
        go_on.set()
        assert await whole(answer) == b"two"


async def test_an_answer_that_is_closed_before_its_end_ends_its_connection() -> None:
    async with worker(CHUNKS + b"3\r\none\r\n", OK) as (state, out):
        answer = await out.post(state.url, b"{}")
        await answer.readany()
        answer.close()
        with pytest.raises(BrokenError):
            await answer.readany()
        await until(lambda: state.ended == 1)
        await whole(await out.post(state.url, b"{}"))
        assert state.connections == 2


async def test_who_waits_for_an_answer_learns_that_another_closed_it() -> None:
    async with worker(CHUNKS) as (state, out):
        answer = await out.post(state.url, b"{}")
        waiting = asyncio.create_task(answer.readany())
        await asyncio.sleep(0)
        answer.close()
        with pytest.raises(BrokenError):
            await waiting


async def test_a_request_that_is_given_up_ends_its_connection() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with worker(mute) as (state, out):
        asking = asyncio.create_task(out.post(state.url, b"{}"))
        await until(lambda: state.asked)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: state.ended == 1)


BROKEN = {
    "nothing": b"",
    "no HTTP": b"\x00\x01 not HTTP at all\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
    "headers without end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * (2 * wire.HEAD_LIMIT),
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * wire.HEAD_LIMIT,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN.keys())
async def test_what_is_no_answer_is_told_as_a_broken_connection(sent: bytes) -> None:
    async with worker(then_close(sent)) as (state, out):
        with pytest.raises(BrokenError):
            async with asyncio.timeout(PATIENCE):
                await out.post(state.url, b"{}")


SHORT = {
    "fewer bytes than told": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
    "chunks without an end": CHUNKS + b"3\r\none\r\n",
    "half a chunk": CHUNKS + b"9\r\none",
    "a chunk's size that is none": CHUNKS + b"3\r\none\r\nzz\r\n",
}


@pytest.mark.parametrize("sent", SHORT.values(), ids=SHORT.keys())
async def test_an_answer_that_breaks_off_gives_what_came_and_then_says_so(sent: bytes) -> None:
    async with worker(then_close(sent)) as (state, out):
        answer = await out.post(state.url, b"{}")
        with pytest.raises(BrokenError):
            await whole(answer)
        assert not answer.at_eof()


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async with worker(then_close(b"HTTP/1.1 200 OK\r\n\r\nall of it"), OK) as (state, out):
        assert await whole(await out.post(state.url, b"{}")) == b"all of it"
        await whole(await out.post(state.url, b"{}"))
        assert state.connections == 2


@pytest.mark.parametrize("more", [OK, b"garbage", b"\0"], ids=["another answer", "garbage", "a byte"])
async def test_what_follows_an_answer_reaches_nobody(more: bytes) -> None:
    async with worker(OK + more, OK.replace(b"{}", b"[]")) as (state, out):
        assert await whole(await out.post(state.url, b"{}")) == b"{}"
        assert await whole(await out.post(state.url, b"{}")) == b"[]"
        assert state.connections == 2


async def test_a_hint_before_the_answer_is_passed_over() -> None:
    async with worker(b"HTTP/1.1 100 Continue\r\n\r\n" + OK) as (state, out):
        answer = await out.post(state.url, b"{}")
        assert (answer.status, await whole(answer)) == (200, b"{}")


async def test_a_connection_that_its_worker_closed_while_idle_isnt_used_again() -> None:
    async with worker(then_close(OK), OK) as (state, out):
        await whole(await out.post(state.url, b"{}"))
        await until(lambda: not any(pool._idle for pool in out._pools.values()))
        await whole(await out.post(state.url, b"{}"))
        assert state.connections == 2


async def test_an_idle_connection_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "IDLE", 0.05)
    async with worker(OK) as (state, out):
        await whole(await out.post(state.url, b"{}"))
        await until(lambda: state.ended == 1)


async def test_what_isnt_fetched_isnt_read_without_limit() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(CHUNKS)
        writer.transport.set_write_buffer_limits(high=0)
        for _ in range(1000):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536
        writer.write(b"0\r\n\r\n")

    async with worker(flood) as (state, out):
        answer = await out.post(state.url, b"{}")
        line = answer._line
        assert line is not None
        await until(lambda: answer._size > wire.AHEAD_LIMIT)
        assert answer._size < 1024 * 1024
        assert not line.transport.is_reading()
        assert len(await whole(answer)) == sent == 1000 * 65536


async def test_where_nobody_listens_it_says_so() -> None:
    out = Wire()
    with pytest.raises(UnreachableError, match="refused"):
        await out.post(URL(f"http://127.0.0.1:{free_port()}/"), b"{}")
    with pytest.raises(UnreachableError, match="can't be resolved"):
        await out.post(URL("http://no-such-host.invalid/"), b"{}")
    await out.aclose()


async def test_a_name_is_resolved_for_its_first_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with worker(OK, OK) as (state, out):
        url = state.url.with_host("localhost")
        await asyncio.gather(*(out.post(url, b"{}") for _ in range(2)))
        assert b"Host: localhost:" in state.asked[0]
