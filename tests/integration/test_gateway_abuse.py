"""Clients and workers that do what they shouldn't: each has a clear end, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from cluster_ai.gateway import connection, reply, wire
from tests.fakes.upstream import LAST, LINE
from tests.rig.processes import PATIENCE
from tests.rig.scripted import (
    ASK,
    BODY_LIMIT,
    CHUNKS,
    HEAD,
    Script,
    Site,
    chunk,
    site,
    told_nothing,
    until,
)

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def short_idleness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that are kept for the next request count as left behind."""
    monkeypatch.setattr(wire, "IDLE", 0.5)


NOT_JSON = {
    "no JSON": b"{",
    "nothing": b"",
    "a list": b"[]",
    "a word": b'"model"',
    "invalid UTF-8": b'{"model":"fake","prompt":"\xff\xfe"}',
    "UTF-16": '{"model":"fake","prompt":"x"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"model":"fake","prompt":"x"}',
    "no number": b'{"model":"fake","prompt":"x","options":{"temperature":NaN}}',
    "infinity": b'{"model":"fake","prompt":"x","options":{"temperature":-Infinity}}',
    "a number of a million digits": b'{"model":"fake","prompt":"x","options":{"seed":%b}}' % (b"9" * 1_000_000),
    "deep nesting": b'{"model":"fake","prompt":"x","options":%b%b}' % (b'{"a":' * 200_000, b"1" + b"}" * 200_000),
    "deep lists": b'{"model":"fake","prompt":"x","context":%b}' % (b"[" * 500_000),
    "a model that is a number": b'{"model":1,"prompt":"x"}',
    "a stream that is a word": b'{"model":"fake","prompt":"x","stream":"no"}',
    "a second model in other letters": b'{"model":"fake","Model":"other","prompt":"x"}',
    "options in other letters": b'{"model":"fake","prompt":"x","OPTIONS":{"num_ctx":1000000}}',
    "options in letters that only look so": '{"model":"fake","prompt":"x","option\u017f":{}}'.encode(),
    "two bodies": b'{"model":"fake","prompt":"x"}{"model":"fake"}',
}


async def test_a_body_that_isnt_what_it_should_be_is_refused_and_reaches_no_worker() -> None:
    async with site() as here:
        for path in ("/api/generate", "/v1/completions"):
            for what, body in NOT_JSON.items():
                status, answer = await here.send(body, path)
                assert (what, status) == (what, 400)
                error = json.loads(answer)["error"]
                assert error if path == "/api/generate" else error["message"]
                assert len(answer) < 1000
                told_nothing(answer, here)
        assert not here.worker.asked


EVERYWHERE = (
    *("/api/chat", "/api/embed", "/api/embeddings", "/api/show", "/api/create", "/api/copy", "/api/pull"),
    *("/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
    *("/api/v1/generate", "/api/v1/chat", "/api/v1/sessions", "/api/v1/templates", "/api/v1/workers", "/api/v1/keys"),
    "/api/v1/tasks",
)


async def test_on_every_route_a_wrong_body_is_the_clients_mistake() -> None:
    async with site() as here:
        taken = []
        for path in EVERYWHERE:
            for what, body in NOT_JSON.items():
                status, answer = await here.send(body, path)
                if not 400 <= status < 500 and status != 503 and (path, what) != ("/api/v1/sessions", "nothing"):
                    taken.append((path, what, status))
                told_nothing(answer, here)
        assert taken == []
        assert not here.worker.asked


@pytest.mark.parametrize("depth", [300, 900, 960, 980, 990, 1000, 1100])
async def test_nesting_is_either_understood_or_refused(depth: int) -> None:
    nested = b'{"model":"fake","prompt":"x","options":%b1%b}' % (b'{"a":' * depth, b"}" * depth)
    async with site() as here:
        status, answer = await here.send(nested)
        assert status in (200, 400)
        told_nothing(answer, here)


async def test_half_a_character_in_a_name_is_told_back_as_it_can_be() -> None:
    async with site() as here:
        status, answer = await here.send(b'{"model":"\\ud800","prompt":"x"}')
        assert status == 404
        assert "not found" in json.loads(answer)["error"]


async def test_a_body_that_names_a_thing_twice_means_the_last_as_it_does_to_the_engine() -> None:
    async with site() as here:
        status, _ = await here.send(b'{"model":"other","prompt":"x","model":"fake","stream":false}')
        assert status == 200
        assert b'"model":"other","prompt":"x","model":"fake"' in here.worker.asked[0][1]


async def test_a_body_above_the_limit_is_refused_and_not_kept_in_memory() -> None:
    async with site() as here:
        length = b"Content-Length: %d\r\n\r\n" % (64 * BODY_LIMIT)
        answer = await here.talk(HEAD + length, b"x" * (2 * BODY_LIMIT))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer
        chunks = b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 65536) * (2 * BODY_LIMIT // 65536)
        assert (await here.talk(HEAD + chunks)).startswith(b"HTTP/1.1 413 ")
        for body in (b"[" + b"{}," * 600_000 + b"{}]", b'{"a":[' + b"0," * 1_100_000 + b"0]}"):
            status, answer = await here.send(body)
            assert status == 413
            told_nothing(answer, here)
        assert not here.worker.asked


async def test_no_header_of_a_client_reaches_a_worker() -> None:
    async with site() as here:
        body = json.dumps(ASK).encode()
        answer = await here.talk(
            HEAD + b"X-Evil: a\r\nConnection: close, X-Evil\r\nForwarded: for=10.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\n"
            b"Cookie: a=b\r\nAccept-Encoding: gzip\r\nRange: bytes=0-1\r\nExpect: 100-continue\r\n"
            b"Transfer-Encoding: chunked\r\nTrailer: X-Evil\r\n\r\n"
            + b"%x;evil=1\r\n%b\r\n0\r\nX-Evil: b\r\n\r\n"
            % (len(body), body)
        )
        assert b"HTTP/1.1 200 OK" in answer
        (head, got), *more = here.worker.asked
        assert not more
        lines = head.decode().split("\r\n")
        assert lines[0] == "POST /api/generate HTTP/1.1"
        assert [it.partition(":")[0] for it in lines[1:-2]] == ["Host", "Content-Type", "Content-Length"]
        assert f"Content-Length: {len(got)}" in lines
        assert json.loads(got)["prompt"] == "x"


async def test_a_request_that_two_readers_could_read_differently_reaches_no_worker() -> None:
    smuggled = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    async with site() as here:
        for framing in (
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"X: a\0b\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            b"Host: elsewhere\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        ):
            answer = await here.talk(HEAD + framing + smuggled)
            assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
            assert answer.count(b"HTTP/1.1 ") == 1 + answer.count(b"valid HTTP/1.1 request")
            told_nothing(answer, here)
        assert not here.worker.asked


async def test_a_request_in_the_body_of_another_is_a_body() -> None:
    smuggled = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    async with site() as here:
        framing = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
        assert (await here.talk(HEAD + framing + smuggled)).startswith(b"HTTP/1.1 400 ")
        assert not here.worker.asked


async def test_pipelined_requests_get_their_own_answers_in_turn() -> None:
    async with site() as here:
        body = json.dumps({**ASK, "stream": False}).encode()
        one = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        last = b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = await here.talk(one * 3 + last)
        assert [it.split(b" ")[0] for it in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"200", b"401"]


async def test_who_only_holds_a_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that never ends, a body that trickles, a connection that asks nothing."""
    monkeypatch.setattr(connection, "HEAD_WITHIN", 1)
    monkeypatch.setattr(connection, "BODY_PATIENCE", 1)
    monkeypatch.setattr(connection, "KEEP_ALIVE", 1)
    monkeypatch.setattr(connection, "DISCARDED_FOR", 1)
    async with site() as here:
        async with asyncio.TaskGroup() as group:
            head = group.create_task(here.talk(HEAD))
            body = group.create_task(here.talk(HEAD + b"Content-Length: 100\r\n\r\n{"))
            idle = group.create_task(here.talk(b""))
        assert head.result().startswith(b"HTTP/1.1 408 ")
        assert body.result().startswith(b"HTTP/1.1 408 ")
        assert idle.result() == b""
        assert not here.worker.asked


async def test_a_client_that_stops_reading_stops_its_worker_and_is_left_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "UNREAD_WITHIN", 1)
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(CHUNKS)
        line = json.dumps({"model": "fake", "response": "x" * 60_000, "done": False}).encode() + b"\n"
        while True:
            writer.write(chunk(line))
            await writer.drain()
            sent += len(line)

    async with site(flood) as here:
        plain = socket.create_connection(("127.0.0.1", here.port))
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = json.dumps(ASK).encode()
        plain.sendall(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await until(lambda: "doesn't read its answer" in caplog.text)
        assert sent < 64 * 1024 * 1024  # what fits into the buffers of four sockets; then it was held
        plain.close()


async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the gateway leaves."""
    await reader.read()


async def endless_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(CHUNKS)
    while True:
        writer.write(chunk(b"x" * 65536))
        await writer.drain()


async def huge_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def headers_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Flood: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


HTML = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>hi</html>"
AWAY = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"
FAULTS: dict[str, tuple[bytes | Script, ...]] = {
    "no HTTP": (b"\x00\x01 not HTTP at all\r\n\r\n",),
    "nothing": (b"",),
    "half a head": (b"HTTP/1.1 200 OK\r\ncontent-ty",),
    "headers without end": (headers_without_end,),
    "a redirect": (AWAY,),
    "a page": (HTML,),
    "fewer bytes than told": (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",),
    "two lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_answer_that_is_none_is_told_as_a_workers_fault(stream: bool) -> None:
    async with site() as here:
        for what, acts in FAULTS.items():
            here.worker.script[:] = acts * 4
            status, answer = await here.ask(stream=stream)
            assert (what, status) == (what, 502)
            assert "w1" in json.loads(answer)["error"]
            told_nothing(answer, here)
            here.worker.script.clear()
            await until_active(here)


async def until_active(here: Site) -> None:
    """A worker that failed is looked at again before it is asked again."""
    async with asyncio.timeout(PATIENCE):
        while (await here.ask(stream=False))[0] != 200:  # noqa: ASYNC110 (what is waited for is elsewhere)
            await asyncio.sleep(0.05)


BROKEN: dict[str, bytes | Script] = {
    "half a line": CHUNKS + chunk(LINE) + chunk(LINE[:20]),
    "an end that isn't one": CHUNKS + chunk(LINE) + b"0\r\n\r\n",
    "a chunk that is none": CHUNKS + chunk(LINE) + b"zz\r\n",
    "lines that aren't JSON": CHUNKS + chunk(LINE) + chunk(b"<html>\n"),
}


async def test_a_stream_that_breaks_ends_in_a_line_that_says_so() -> None:
    async with site() as here:
        for what, act in BROKEN.items():
            here.worker.script[:] = [act] * 8
            status, answer = await here.ask(stream=True, images=["aGk="])  # such answers can't go on elsewhere
            *_, last = answer.splitlines()
            assert (what, status) == (what, 200)
            assert "broke off on worker w1" in json.loads(last)["error"]
            told_nothing(answer, here)
            here.worker.script.clear()
            await until_active(here)


async def test_a_line_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(*[endless_line] * 8) as here:
        for path in ("/api/generate", "/v1/completions"):
            here.worker.script[:] = [endless_line] * 4
            status, answer = await here.ask(path, stream=True)
            assert status == 502 or b"error" in answer[-1000:]
            assert len(answer) < 1024 * 1024
            here.worker.script.clear()
            await until_active(here)


async def test_a_whole_answer_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "ANSWER_LIMIT", 4 * 1024 * 1024)
    async with site() as here:
        for path in ("/api/generate", "/v1/completions", "/api/v1/generate"):
            here.worker.script[:] = [huge_answer] * 4
            status, answer = await here.ask(path, stream=False)
            assert (path, status) == (path, 502)
            assert b"larger than 4 MiB" in answer or b"too long" in answer
            told_nothing(answer, here)
            here.worker.script.clear()
            await until_active(here)


async def test_what_follows_an_answer_reaches_no_other_client() -> None:
    stolen = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n"stolen"'
    whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(LAST) + LAST
    async with site(whole + stolen, whole + stolen) as here:
        answers = [await here.ask(stream=False) for _ in range(4)]
        assert all(status == 200 and b"stolen" not in answer for status, answer in answers)


async def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    """Before its body, in its midst, while it waits, in the midst of its answer."""

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKS + chunk(LINE))
        await reader.read()

    body = json.dumps(ASK).encode()
    asked = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    async with site(gone, slowly, gone) as here:
        for begin in (b"", HEAD, asked[:-3], asked, asked, asked * 3):
            _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(begin)
            await writer.drain()
            if begin.startswith(asked):
                known = len(here.worker.asked)
                await until(lambda known=known: len(here.worker.asked) > known)  # type: ignore[misc]
            writer.transport.abort()
        await until(lambda: len(here.worker.asked) == 3)


async def test_many_abusers_at_once_disturb_nobody() -> None:
    requests = [HEAD + b"Content-Length: 99999999\r\n\r\n", b"\x00" * 1000, b"GET / HTTP/1.1\r\n", HEAD * 100]
    async with site() as here:
        sockets = []
        for number in range(100):
            _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(requests[number % len(requests)])
            sockets.append(writer)
        answers = await asyncio.gather(*(here.ask(stream=True) for _ in range(20)))
        assert all(answer == (200, LINE + LINE + LAST) for answer in answers)
        for writer in sockets:
            writer.transport.abort()
