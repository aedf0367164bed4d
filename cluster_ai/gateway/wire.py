"""HTTP/1.1 to the workers: as little of it as engines and their fronts speak, at a fifth of a general client's price.

One request at a time on a connection, which is kept for the next one; no redirects, no cookies, no compression. What an
answer may take up is limited, whatever the other side sends: headers in size, and what was read but not yet fetched.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import httptools
from yarl import URL

from cluster_ai.addresses import is_address
from cluster_ai.tls.live import worded

CONNECT_WITHIN = 3.0  # seconds
IDLE = 30.0  # seconds that a connection is kept without use
RESOLVED_FOR = 60.0  # seconds that a name's addresses are remembered
HEAD_LIMIT = 64 * 1024  # bytes
AHEAD_LIMIT = 128 * 1024  # bytes that are read before they are fetched


class UnreachableError(OSError):
    """No connection came about."""


class BrokenError(OSError):
    """The connection ended before its answer, or brought something else than HTTP."""


class Content(Protocol):
    async def readany(self) -> bytes:
        """What has come, or what comes next; empty at the end."""
        ...

    def at_eof(self) -> bool: ...


class Response(Protocol):
    """What the relay needs of an answer; aiohttp's ClientResponse is one too."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def content(self) -> Content: ...

    def release(self) -> object: ...

    def close(self) -> None: ...


class Answer:
    """One answer, while and after it comes."""

    __slots__ = ("_error", "_line", "_pieces", "_size", "_waiter", "done", "headers", "status")

    def __init__(self, line: _Line) -> None:
        self._line: _Line | None = line
        self.status = 0
        self.headers: dict[str, str] = {}
        self.done = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._error: BrokenError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def content(self) -> Answer:
        return self

    def at_eof(self) -> bool:
        return self.done and not self._pieces

    async def readany(self) -> bytes:
        pieces = self._pieces
        while not pieces:
            if self._error is not None:
                raise self._error
            if self.done:
                return b""
            await self.wait()
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._size > AHEAD_LIMIT:
            self._read_on()
        self._size = 0
        return piece

    def _read_on(self) -> None:
        if self._line is not None and not self._line.transport.is_closing():
            self._line.transport.resume_reading()

    async def wait(self) -> None:
        """Until something changes."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def release(self) -> None:
        self.close()

    def close(self) -> None:
        """An answer that isn't finished ends its connection, so that the engine stops generating."""
        line, self._line = self._line, None
        if line is not None:
            self._error = BrokenError("it was closed here")
            line.transport.abort()
            self.wake()

    # What the line tells:

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        before, self._size = self._size, self._size + len(piece)
        if before <= AHEAD_LIMIT < self._size and self._line is not None:
            self._line.transport.pause_reading()

    def finish(self, error: BrokenError | None) -> None:
        if self._size > AHEAD_LIMIT:
            self._read_on()
        self._line, self._error, self.done = None, error, error is None
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error


class _Line(asyncio.Protocol):
    """One connection. answer: what it brings now; None: it is idle."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.answer: Answer | None = None
        self.since = 0.0  # idle since
        self._parser = httptools.HttpResponseParser(self)
        self._head = 0  # bytes
        self._measured = False  # the body's length is known, or it comes in chunks
        self._heading = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def ask(self, request: bytes) -> Answer:
        answer = self.answer = Answer(self)
        self._head, self._heading = 0, True
        self.transport.write(request)
        return answer

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:  # nobody asked
            self.transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as e:
            self._end(BrokenError(f"it sent something else than HTTP ({e.__context__ or e})"))
            self.transport.abort()
            return
        except httptools.HttpParserUpgrade:
            self._end(BrokenError("it wants to speak another protocol"))
            self.transport.abort()
            return
        if self._heading:
            self._head += len(data)
            if self._head > HEAD_LIMIT:
                self._end(BrokenError("its headers are too long"))
                self.transport.abort()
                return
        answer.wake()

    def eof_received(self) -> None:
        """The transport closes itself then, and connection_lost decides."""

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is None:
            self._pool.forget(self)
        elif exc is None and not self._heading and not self._measured:
            self._end(None)
        else:
            self._end(BrokenError(str(exc) if exc is not None else "closed before its end"))

    def _end(self, error: BrokenError | None) -> None:
        answer, self.answer = self.answer, None
        if answer is not None:
            answer.finish(error)

    # What the parser tells:

    def on_message_begin(self) -> None:
        if self.answer is None:  # something follows the answer that was asked for: this connection can't be trusted
            raise BrokenError("more than one answer")
        self._measured = False

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-type":
                if self.answer is not None:
                    self.answer.headers["Content-Type"] = value.decode("latin-1")
            case b"content-length" | b"transfer-encoding":
                self._measured = True

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and self.answer is not None:
            self._heading = False
            self.answer.status = status

    def on_body(self, body: bytes) -> None:
        if self.answer is not None:
            self.answer.add(body)

    def on_message_complete(self) -> None:
        if self._heading or self.answer is None:  # 100 Continue and the like
            return
        kept = self._parser.should_keep_alive()
        self._end(None)
        if kept and not self.transport.is_closing():
            self._pool.keep(self)
        else:
            self.transport.close()


class _Pool:
    """Connections to one origin that wait for a request; the last one is used first."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        self._host, self._port, self._context = host, port, context
        self._idle: deque[_Line] = deque()
        self._addresses: tuple[str, ...] = (host,) if is_address(host) else ()
        self._resolved = float("inf") if self._addresses else 0.0  # when that is to be done again
        self._sweeper: asyncio.TimerHandle | None = None

    def take(self) -> _Line | None:
        while self._idle:
            line = self._idle.pop()
            if not line.transport.is_closing():
                return line
        return None

    def keep(self, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        line.since = loop.time()
        self._idle.append(line)
        if self._sweeper is None:
            self._sweeper = loop.call_later(IDLE, self._sweep)

    def forget(self, line: _Line) -> None:
        if line in self._idle:
            self._idle.remove(line)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = None
        while self._idle and self._idle[0].since + IDLE <= loop.time():
            self._idle.popleft().transport.close()
        if self._idle:
            self._sweeper = loop.call_at(self._idle[0].since + IDLE, self._sweep)

    async def connect(self) -> _Line:
        """Raises UnreachableError and TimeoutError."""
        loop = asyncio.get_running_loop()
        error: OSError | None = None
        async with asyncio.timeout(CONNECT_WITHIN):
            for address in await self._resolve(loop):
                try:
                    _, line = await loop.create_connection(
                        lambda: _Line(self),
                        address,
                        self._port,
                        ssl=self._context,
                        server_hostname=self._host if self._context is not None else None,
                    )
                except OSError as e:
                    error = e
                else:
                    return line
        if self._addresses != (self._host,):
            self._resolved = 0.0
        raise UnreachableError(_worded(error)) from error

    async def _resolve(self, loop: asyncio.AbstractEventLoop) -> tuple[str, ...]:
        if self._resolved <= loop.time():
            try:
                found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            except OSError as e:
                raise UnreachableError(f"its name {self._host} can't be resolved") from e
            self._addresses = tuple(dict.fromkeys(str(it[4][0]) for it in found))
            self._resolved = loop.time() + RESOLVED_FOR
        return self._addresses

    def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        while self._idle:
            self._idle.popleft().transport.abort()


class Wire:
    """To all workers. Without a context only http:// can be spoken."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._pools: dict[tuple[str, int, bool], _Pool] = {}
        self._heads: dict[URL, tuple[_Pool, bytes]] = {}

    async def post(self, url: URL, body: bytes) -> Answer:
        """The answer, once its status is known. Raises UnreachableError, TimeoutError (connecting) and BrokenError."""
        pool, head = self._heads.get(url) or self._prepare(url)
        line = pool.take() or await pool.connect()
        answer = line.ask(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        try:
            while not answer.status:
                answer.raise_error()
                await answer.wait()
        except BaseException:
            answer.close()
            raise
        return answer

    def _prepare(self, url: URL) -> tuple[_Pool, bytes]:
        host, port, secure = url.raw_host or "", url.port or 80, url.scheme == "https"
        pool = self._pools.get((host, port, secure))
        if pool is None:
            pool = self._pools[host, port, secure] = _Pool(host, port, self._context if secure else None)
        name = f"[{host}]" if ":" in host else host
        head = f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {name}:{port}\r\nContent-Type: application/json\r\n"
        self._heads[url] = pool, head.encode("ascii") + b"Content-Length: "
        return self._heads[url]

    async def aclose(self) -> None:
        """Idle connections; one that brings an answer ends with that."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        self._heads.clear()
        await asyncio.sleep(0)  # what was aborted tells its end


def _worded(error: OSError | None) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {worded(error)}"
    if error is None:
        return "no address"
    return os.strerror(error.errno).lower() if error.errno else str(error)
