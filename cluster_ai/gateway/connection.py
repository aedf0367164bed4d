"""A client's connection: uvicorn's protocol, with an end to everything that a client could draw out.

A head or body that never ends, a client that stops reading or only stays connected, a head that grows for ever: uvicorn
has no limit for them. Each connection counts seconds in `tick`, which the server calls for all of them; so a limit
costs a request no timer. And an answer given before the whole request was read (a refusal) reaches its client: what
follows is read and thrown away for a while, since closing at once would make the client's system drop the answer.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import urllib.parse
from enum import Enum, auto
from functools import cache
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from cluster_ai.gateway.api.http import Refusal, api_of, encode, error_body

# Seconds, as `tick` counts them.
KEEP_ALIVE = 75  # a connection without a request
HEAD_WITHIN = 20  # from the first byte of a request to the end of its headers
BODY_PATIENCE = 30  # without any progress of a body, or as much as that in all below BODY_RATE
UNREAD_WITHIN = 60  # without the client's taking what waits for it
DISCARDED_FOR = 5  # the rest of a request that was answered already
CLOSED_WITHIN = 30  # a connection that we closed, whose last answer isn't taken

BODY_RATE = 8 * 1024  # bytes a second
HEAD_LIMIT = 64 * 1024  # bytes
HEADERS_LIMIT = 200

_log = logging.getLogger(__name__)


class _Phase(Enum):
    BETWEEN = auto()  # no request has begun that isn't complete
    HEAD = auto()
    BODY = auto()
    DISCARDING = auto()


class Connection(HttpToolsProtocol):
    """What uvicorn is told to make of each connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._phase = _Phase.BETWEEN
        self._seconds = 0  # in this phase
        self._patience = float(BODY_PATIENCE)
        self._received = 0  # bytes
        self._piece = 0  # of them, in the last piece
        self._begun = 0  # of them, up to the end of the piece in which this request began
        self._counted = 0  # of them, up to the last tick
        self._unread = self._closing = 0  # seconds
        self._refusal: Refusal | None = None
        self._answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > most_connections() and not self._make_room():
            self._refuse(Refusal(503, "too_many_connections", "too many connections; try again later"))

    def _make_room(self) -> bool:
        """Ends a connection that waits for nothing: without a descriptor left, no worker could be reached."""
        idle = next((c for c in self.connections if isinstance(c, Connection) and c.is_idle()), None)
        if idle is not None:
            idle.transport.abort()
        return idle is not None

    def is_idle(self) -> bool:
        return self._phase is _Phase.BETWEEN and self._answering is None and self._seconds > 0

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn tells only the last of pipelined requests."""
        self.pipeline.clear()
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    # --- what comes in ---------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._phase is _Phase.DISCARDING:
            return
        self._piece = len(data)
        self._received += self._piece
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as e:
            self._stay(data[e.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(self._refusal or _INVALID)
            return
        if self._phase is _Phase.HEAD and self._received - self._begun > HEAD_LIMIT:
            self._refuse(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._enter(_Phase.HEAD)
        self._begun = self._received

    def on_headers_complete(self) -> None:
        """As uvicorn's, with limits, an exchange of our own, and no WebSockets. Raises what makes a request invalid."""
        parser, scope = self.parser, self.scope
        version = parser.get_http_version()
        self._refusal = self._wrong(version)
        if self._refusal is not None:
            raise ValueError(self._refusal.message)
        if version != "1.1":
            scope["http_version"] = version
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["method"] = parser.get_method().decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        self.cycle = cycle = _Exchange(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive() and not parser.should_upgrade(),
            on_response=self.on_response_complete,
        )
        self._enter(_Phase.BODY)
        self._patience, self._counted = BODY_PATIENCE, self._received
        if self._answering is None:
            self._answering = cycle
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > 65536:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # its body, if it has one, is still to come: see _stay
        self._enter(_Phase.BETWEEN)
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _stay(self, rest: bytes) -> None:
        """A client would like to speak HTTP/2 or WebSocket from here on; it must take HTTP/1.1 for an answer.

        Java's client wishes so with every first request. The parser takes a wish for the end of the request, although
        its body follows; that is read by a parser of its own.
        """
        self.parser = httptools.HttpRequestParser(_Body(self))
        framing = [b"%b: %b\r\n" % it for it in self.headers if it[0] in (b"content-length", b"transfer-encoding")]
        try:
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
            self.parser.feed_data(rest)
        except httptools.HttpParserError:
            self._refuse(_INVALID)

    def _wrong(self, version: str) -> Refusal | None:
        """What the parser lets through, but two readers could understand in two ways, or is too much."""
        headers, hosts = self.headers, 0
        for name, value in headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding" and (value.lower() != b"chunked" or version == "1.0"):
                return Refusal(501, "transfer_encoding", "no transfer encoding but chunked is known here")
        if hosts != 1 and (hosts or version == "1.1"):
            return Refusal(400, "bad_request", "a request has one Host header")
        # How much of a piece is the head isn't known; to count exactly is rarely needed.
        if len(headers) > HEADERS_LIMIT or (
            self._received - self._begun + self._piece > HEAD_LIMIT and self._head_size() > HEAD_LIMIT
        ):
            return _HEAD_TOO_LARGE
        return None

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _enter(self, phase: _Phase) -> None:
        self._phase, self._seconds = phase, 0

    # --- what goes out ---------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """As uvicorn's, without its timer for what comes next: `tick` sees to that."""
        self.server_state.total_requests += 1
        done, self._answering = self._answering, None
        if self.transport.is_closing() or done is None:
            return
        self.flow.resume_reading()
        if done.more_body or self._phase is _Phase.DISCARDING:
            self._discard()
        elif not done.keep_alive:
            self.transport.close()
        elif self.pipeline:
            waiting, app = self.pipeline.pop()
            self._answering = waiting
            self._start_asgi_task(waiting, app)
        else:
            self._seconds = 0

    def _discard(self) -> None:
        """Say that this was all, and read on for a while without looking."""
        self._enter(_Phase.DISCARDING)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _refuse(self, refusal: Refusal) -> None:
        """Answers what never became a request, or whose body doesn't come; then this connection has an end."""
        _log.warning("%s: refused: %s", self.client[0] if self.client else "?", refusal.message)
        answering = self._answering
        waiting = answering is not None and answering is self.cycle and self._phase is _Phase.BODY
        if answering is not None and (answering.response_started or not waiting):
            # Another answer of this connection is under way: it must be whole, and it is the last.
            answering.keep_alive = False
            self.pipeline.clear()
            self._enter(_Phase.DISCARDING)
            return
        path = self.url.decode("latin-1") if self._phase is not _Phase.BETWEEN else ""
        body = encode(error_body(api_of(path), refusal, ""))
        head = b"content-type: application/json; charset=utf-8\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(STATUS_LINE[refusal.status] + head % len(body) + body)
        if answering is not None:  # the application waits for the rest of a body
            self._answering = None
            answering.disconnected = True
            answering.message_event.set()
        self._discard()

    # --- time ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """To be called once a second."""
        self._seconds += 1
        if self.transport.is_closing():
            self._closing += 1
            if self._closing > CLOSED_WITHIN:
                self.transport.abort()
            return
        self._unread = self._unread + 1 if self.flow.write_paused else 0
        if self._unread > UNREAD_WITHIN:
            _log.warning("%s: closed: it doesn't read its answer", self.client[0] if self.client else "?")
            self.transport.abort()
            return
        match self._phase:
            case _Phase.BETWEEN:
                if self._answering is not None:
                    self._seconds = 0
                elif self._seconds > KEEP_ALIVE:
                    self.transport.close()
            case _Phase.HEAD:
                if self.flow.read_paused:  # a request that waits for the answer before it
                    self._seconds = 0
                elif self._seconds > HEAD_WITHIN:
                    self._refuse(Refusal(408, "timeout", f"no whole head of a request within {HEAD_WITHIN} seconds"))
            case _Phase.BODY:
                self._await_body()
            case _Phase.DISCARDING:
                if self._answering is not None:
                    self._seconds = 0
                elif self._seconds > DISCARDED_FOR:
                    self.transport.close()

    def _await_body(self) -> None:
        arrived, self._counted = self._received - self._counted, self._received
        if self.flow.read_paused:
            return
        self._patience = min(self._patience - 1 + arrived / BODY_RATE, float(BODY_PATIENCE))
        if self._patience < 0:
            self._refuse(Refusal(408, "timeout", "the request's body doesn't come, or too slowly"))


@cache
def most_connections() -> int:
    """Each may need a second descriptor, to its worker; some are for files and checks."""
    return max(16, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 256) // 2)


class _Body:
    """Takes of a request only its body."""

    def __init__(self, owner: Connection) -> None:
        self.on_body, self.on_message_complete = owner.on_body, owner.on_message_complete


_INVALID = Refusal(400, "bad_request", "this is not a valid HTTP/1.1 request")
_HEAD_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "the request's address and headers are too large"
)


class _Exchange(RequestResponseCycle):
    """uvicorn's request and answer, in less time; an HTTP/1.0 client gets no chunks, which it wouldn't understand.

    The head is written with the first piece of the body, unless that keeps it waiting: one write costs as much as all
    else that is done for an answer here.
    """

    _head = b""

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._start(message)
        elif not self.response_complete:
            self._continue(message)
        else:
            raise RuntimeError(f"{message['type']} after the end of the answer")

    def _start(self, message: Any) -> None:
        if message["type"] != "http.response.start":
            raise RuntimeError(f"{message['type']} before the answer's start")
        self.response_started = True
        self.waiting_for_100_continue = False
        status: int = message["status"]
        if self.more_body:
            self.keep_alive = False
        lines = [STATUS_LINE[status]]
        closing = False
        for name, value in (*self.default_headers, *message.get("headers", ())):
            name = name.lower()
            if name == b"content-length" and self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive, closing = False, True
            lines.append(b"%b: %b\r\n" % (name, value))
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            if self.scope["http_version"] == "1.0":
                self.keep_alive = False
            else:
                self.chunked_encoding = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive and not closing:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if not head.count(b"\n") == head.count(b"\r") == len(lines) or b"\0" in head:
            raise RuntimeError("a header's value has a line break in it")
        self._head = head + b"\r\n"
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self.disconnected:
            self.transport.write(head)

    def _continue(self, message: Any) -> None:
        if message["type"] != "http.response.body":
            raise RuntimeError(f"{message['type']} within the answer's body")
        body, more = message.get("body", b""), message.get("more_body", False)
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            self.transport.write(head)
        elif self.chunked_encoding:
            if more:
                if body:
                    self.transport.write(b"%b%x\r\n%b\r\n" % (head, len(body), body))
                elif head:
                    self.transport.write(head)
                return
            end = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
            self.transport.write(head + end)
        else:
            if self.chunked_encoding is False:
                if len(body) > self.expected_content_length:
                    raise RuntimeError("the answer is longer than its Content-Length")
                self.expected_content_length -= len(body)
            self.transport.write(head + body)
        if not more:
            if self.expected_content_length:
                raise RuntimeError("the answer is shorter than its Content-Length")
            self.response_complete = True
            self.message_event.set()
            self.on_response()
