"""An engine that fails on demand, as a real one won't when a test wants it: it answers checks, and follows a script.

Only for faults: what works is tried on real engines.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto

MODEL = "fake:latest"
RENDERED = "<user>x<assistant>"  # every prompt
LINE = b'{"model":"fake","response":"a","done":false}\n'
OPENAI_LINE = (
    b'data: {"id":"c1","object":"text_completion","created":1,"choices":[{"text":"a","index":0,"finish_reason":null}],'
    b'"model":"fake","system_fingerprint":"fp"}\n\n'
)
OPENAI_LAST = (
    b'data: {"id":"c1","object":"text_completion","created":1,"choices":[{"text":"","index":0,"finish_reason":"stop"}],'
    b'"model":"fake","system_fingerprint":"fp"}\n\ndata: [DONE]\n\n'
)
LAST = b'{"model":"fake","response":"","done":true,"load_duration":1000,"total_duration":2000,"eval_count":2}\n'
SAID = b'{"model":"fake","message":{"role":"assistant","content":"a"},"done":false}\n'
EVENT, DONE = b'data: {"choices":[{"delta":{"content":"a"},"text":"a"}]}\n\n', b"data: [DONE]\n\n"  # OpenAI's
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0}\n\n'  # Anthropic's
STEP, SUCCESS = b'{"status":"pulling manifest"}\n', b'{"status":"success"}\n'  # as work on models is told
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
SHOWN = b'{"parameters":"num_ctx 2048","template":"{{ .Prompt }}","capabilities":["completion"]}'


class Act(Enum):
    ANSWER = auto()
    ERROR_500 = auto()
    LOST_MODEL = auto()  # 404
    CLOSE = auto()  # before a header
    EMPTY_THEN_CLOSE = auto()  # a header, then the connection breaks
    DIE_MIDWAY = auto()  # a line, then the connection breaks
    END_EARLY = auto()  # a line, then a clean end that isn't one
    ERROR_LINE = auto()  # as Ollama tells of a fault in a stream
    GARBAGE = auto()  # no HTTP
    FALL_SILENT = auto()  # a line, then nothing, for ever
    HALF_LINE = auto()  # a line and a half, then the connection breaks
    SILENT = auto()  # nothing, for ever


@dataclass
class Upstream:
    """script: what the next requests meet; when it is used up, they are answered."""

    script: list[Act] = field(default_factory=list)
    models: list[str] = field(default_factory=lambda: [MODEL])
    loaded: list[str] = field(default_factory=list)  # of its models, as the checks see it
    deaf: bool = False  # checks get no answer any more
    asked: list[bytes] = field(default_factory=list)  # bodies
    left: int = 0  # connections that the gateway closed while it was silent
    url: str = ""


@contextlib.asynccontextmanager
async def upstream(*script: Act, host: str = "127.0.0.1") -> AsyncIterator[Upstream]:
    state = Upstream(list(script))
    writers: set[asyncio.StreamWriter] = set()
    serving: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        writers.add(writer)
        try:
            while await _request(state, reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            serving.discard(task)
            writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(accept, host, 0)
    state.url = f"http://{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*serving, return_exceptions=True)


@contextlib.contextmanager
def in_thread(*hosts: str) -> Iterator[tuple[Upstream, ...]]:
    """One on each of these addresses, for tests that don't run in an event loop."""
    ready: Future[tuple[Upstream, ...]] = Future()

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            found = [await stack.enter_async_context(upstream(host=host)) for host in hosts]
            ended = asyncio.Event()
            stops.append((asyncio.get_running_loop(), ended))
            ready.set_result(tuple(found))
            await ended.wait()

    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="upstreams")
    thread.start()
    try:
        yield ready.result(60)
    finally:
        for loop, ended in stops:
            loop.call_soon_threadsafe(ended.set)
        thread.join(60)


async def _request(state: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Serves one; says whether the connection is kept."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    body = await reader.readexactly(size)
    path = head.split(b" ")[1].decode()
    if head.startswith(b"GET"):
        if state.deaf:
            await reader.read()
            return False
        checks = {
            "/api/version": {"version": "0.17.4"},
            "/api/ps": {"models": [{"name": name, "size": 1} for name in state.loaded]},
            "/api/tags": {"models": [{**_TAG, "name": name} for name in state.models]},
        }
        await _send(writer, 200, json.dumps(checks[path]).encode())
        return True
    if path == "/api/show":
        await _send(writer, 200, SHOWN)
        return True
    if b'"_debug_render_only":true' in body:
        await _send(writer, 200, json.dumps({"_debug_info": {"rendered_template": RENDERED}}).encode())
        return True
    state.asked.append(body)
    if path == "/api/generate" and b'"prompt"' not in body:  # only to load or unload the model
        await _send(writer, 200, LAST)
        return True
    line, last = LINE, LAST
    if path in ("/api/copy", "/api/delete") and not state.script:
        await _send(writer, 200, b"")
        return True
    if path in ("/api/pull", "/api/create"):
        line, last = STEP, SUCCESS
    elif path == "/api/chat":
        line = SAID
    elif path == "/v1/messages":
        line, last = DELTA, STOP
    elif path == "/v1/completions":
        line, last = OPENAI_LINE, OPENAI_LAST
    elif path.startswith("/v1/"):
        line, last = EVENT, DONE
    return await _act(state, state.script.pop(0) if state.script else Act.ANSWER, reader, writer, line, last)


async def _act(
    state: Upstream, act: Act, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes, last: bytes
) -> bool:
    match act:
        case Act.ANSWER:
            await _stream(writer, line, line, last, end=True)
            return True
        case Act.FALL_SILENT:
            await _stream(writer, line, end=False)
            await reader.read()
            state.left += 1
        case Act.HALF_LINE:
            await _stream(writer, line, line[:20], end=False)
        case Act.ERROR_500:
            await _send(writer, 500, b'{"error":"out of memory"}')
            return True
        case Act.LOST_MODEL:
            await _send(writer, 404, b'{"error":"model \'fake\' not found"}')
            return True
        case Act.EMPTY_THEN_CLOSE:
            await _stream(writer, end=False)
        case Act.DIE_MIDWAY:
            await _stream(writer, line, end=False)
        case Act.END_EARLY:
            await _stream(writer, line, end=True)
        case Act.ERROR_LINE:
            await _stream(writer, line, b'{"error":"the runner has stopped"}\n', end=True)
        case Act.GARBAGE:
            writer.write(b"\x00\x01 not HTTP at all\r\n\r\n")
            await writer.drain()
        case Act.SILENT:
            await reader.read()
            state.left += 1
        case Act.CLOSE:
            pass
    return False


async def _send(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def _stream(writer: asyncio.StreamWriter, *lines: bytes, end: bool) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")
    for line in lines:
        writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        await writer.drain()
    if end:
        writer.write(b"0\r\n\r\n")
        await writer.drain()


_TAG = {"size": 1, "digest": "d", "modified_at": "2026-01-01T00:00:00.123456789Z"}
