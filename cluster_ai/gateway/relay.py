"""Carries a call to a worker and its answer back. A fault means another worker: unseen, or going on where it broke off.

The rest of the gateway knows only Relay.open, Reply.next and Reply.close, so that this can be replaced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import aiohttp

from cluster_ai.gateway.api.http import Refusal, encode
from cluster_ai.gateway.balancing import Balancer
from cluster_ai.gateway.calls import Call
from cluster_ai.gateway.failover.elsewhere import BROKEN, Elsewhere
from cluster_ai.gateway.failover.forms import FORMS, Form
from cluster_ai.gateway.failover.kept import Kept
from cluster_ai.gateway.failover.lost import LostError
from cluster_ai.gateway.failover.onward import Onward
from cluster_ai.gateway.failover.said import UnresumableError
from cluster_ai.gateway.failover.seam import ERROR, Seam, gives_up
from cluster_ai.gateway.fleet import Fleet, Flight, Worker
from cluster_ai.gateway.tracing import attempted, failed
from cluster_ai.gateway.wire import Response, UnreachableError, Wire

Moment = Literal["start", "stream"]
RESUMES = 3  # of one answer: what breaks more often may be what breaks the engines

_SKIPPED = ("Accept", "Accept-Encoding", "User-Agent")
_RETRY_AFTER = (b"retry-after", b"2")
_EARLY = "it ended before its end"
ANSWER_LIMIT = 128 * 1024 * 1024  # bytes of an answer in one piece


def session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """How the relay wants to talk: as many connections as there are requests, no limit on how long an answer takes."""
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_SKIPPED,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=3),
    )


@dataclass(frozen=True, slots=True)
class Failover:
    """A worker takes over from another: before the answer has begun, or in its midst."""

    before: str
    after: str
    model: str
    reason: str
    moment: Moment


class Reply:
    """An answer that has begun. first is its first piece, or all of it when done; waited: seconds until it came.

    Streams in a form that is known are cut so that each piece is made of whole objects, and are resumed on another
    worker where they break; worker is then that one.
    """

    __slots__ = (
        "_call",
        "_flight",
        "_form",
        "_given_up",
        "_kept",
        "_onward",
        "_over",
        "_relay",
        "_response",
        "_resumes",
        "_seam",
        "_separator",
        "_started",
        "_streamed",
        "content_type",
        "done",
        "first",
        "status",
        "waited",
        "worker",
    )

    def __init__(
        self,
        relay: Relay,
        call: Call,
        worker: Worker,
        flight: Flight,
        response: Response,
        *,
        started: float,
        form: Form | None,
    ) -> None:
        self._relay, self._call, self.worker, self._flight, self._response = relay, call, worker, flight, response
        self._started, self._form = started, form
        self.first, self.done, self.waited = b"", False, 0.0
        self.status = response.status
        self.content_type = response.headers.get("Content-Type", "application/json").encode("latin-1")
        self._separator = form.separator if form is not None else b""
        self._seam, self._kept = Seam(self._separator), Kept()
        self._onward: Onward | None = None
        self._given_up = b""  # the engine's last object, in which it gave up
        self._over = False  # the end has been handed out
        self._resumes = 0
        self._streamed = 0.0  # when the first piece came

    async def begin(self, *, whole: bool) -> None:
        """Until there is something to send. Raises LostError as long as nobody has seen anything."""
        content = self._response.content
        if whole:
            self.first, self.done = await _read_whole(self._response), True
        elif self._form is None:
            self.first = await content.readany()
            self.done = content.at_eof()
        else:
            while not self.first:
                piece = await content.readany()
                self.first, self._given_up = self._seam.cut(piece) if piece else (self._unended(), b"")
                if self._given_up and not self.first:
                    raise LostError(gives_up(self._given_up))
                if not piece and not self.first:
                    raise LostError(_EARLY, alive=True)
                self._check_length()
            self._kept.add(self.first)
            self.done = content.at_eof() and self._whole()
        self._flight.pieces += 1
        self._flight.waiting = False
        self.waited = self.elapsed()
        self._streamed = time.perf_counter()

    def elapsed(self) -> float:
        """Seconds since this worker was asked."""
        return time.perf_counter() - self._started

    async def next(self) -> bytes:
        """The next piece; empty at the end. Raises LostError when the stream broke and can't go on elsewhere."""
        if self._over:
            return b""
        flight = self._flight
        flight.waiting = True
        try:
            piece = await self._response.content.readany()
        except BROKEN as e:
            return await self._broke(flight.lost or worded(e), e)
        flight.waiting = False
        flight.pieces += 1
        if (
            self._onward is None
            and not self._seam.rest
            and self._form is not None
            and piece.endswith(self._separator)
            and ERROR not in piece
        ):
            self._kept.add(piece)
            return piece
        return await self._uneven(piece)

    async def _uneven(self, piece: bytes) -> bytes:
        """What isn't one or more whole objects as they came."""
        if self._form is None:
            self.done = not piece
            return piece
        if self._given_up:
            return await self._broke(gives_up(self._given_up))
        while True:
            if not piece:
                return await self._end()
            if self._onward is not None:
                out = self._onward.feed(piece)
                reason = self._onward.error
                if reason and self._separator == b"\n":
                    self._given_up = encode({"error": reason}) + self._separator
            else:
                out, self._given_up = self._seam.cut(piece)
                reason = gives_up(self._given_up) if self._given_up else ""
            if out:
                self._kept.add(out)
                return out
            if reason:
                return await self._broke(reason)
            try:
                self._check_length()
                piece = await self._read()
            except LostError as e:
                return await self._broke(e.reason, e)

    async def _read(self) -> bytes:
        self._flight.waiting = True
        try:
            piece = await self._response.content.readany()
        except BROKEN as e:
            raise LostError(self._flight.lost or worded(e)) from e
        self._flight.waiting = False
        return piece

    async def _end(self) -> bytes:
        """The connection has nothing more."""
        if self._onward is not None and self._onward.error:
            return await self._broke(self._onward.error)
        rest = self._unended()
        if rest:
            self._kept.add(rest)
            self._over = self.done = True
            return rest
        if self._whole():
            self.done = True
            return b""
        if self._looped():
            raise LostError("its model repeats itself, and the engine gave it up")
        return await self._broke(_EARLY)

    def _unended(self) -> bytes:
        """The last object, where its end is the connection's."""
        rest, self._seam.rest = self._seam.rest, b""
        return rest if self._form is not None and self._form.over in rest else b""

    def _whole(self) -> bool:
        return self._form is not None and self._form.over in self._kept.last()

    def _looped(self) -> bool:
        try:
            return self._form is not None and self._form.said(self._kept.read()).looped
        except UnresumableError:
            return False

    def _check_length(self) -> None:
        if self._seam.overlong:
            raise LostError("it sent an object that is too long")

    async def _broke(self, reason: str, cause: BaseException | None = None) -> bytes:
        """Goes on elsewhere: the next piece. Raises LostError."""
        lost, form, given_up = self.worker, self._form, self._given_up
        if form is not None and self._whole():  # it broke after its end
            self.done = True
            return b""
        self._relay.lost(lost, reason)
        self._leave()
        try:
            if form is None or self._resumes >= RESUMES:
                raise UnresumableError("such answers aren't resumed" if form is None else "it broke off too often")
            if not self._kept.whole:
                raise UnresumableError("it is too long")
            seconds = time.perf_counter() - self._streamed
            resumed = await self._relay.elsewhere.resume(self._call, form, self._kept.read(), lost, seconds)
        except UnresumableError as e:
            if given_up:  # the client is told what the engine said
                self._over = self.done = True
                self._kept.add(given_up)
                return given_up
            raise LostError(f"{reason}; and it can't go on elsewhere: {e.reason}") from cause
        self._relay.resumed(lost, resumed.worker, self._call.model, reason)
        self._resumes += 1
        self._started, self.worker, self._flight = time.perf_counter(), resumed.worker, resumed.flight
        self._given_up, self._seam = b"", Seam(self._separator)
        if resumed.response is None or resumed.onward is None:
            self._over = self.done = True
            self._kept.add(resumed.rest)
            return resumed.rest
        self._response, self._onward = resumed.response, resumed.onward
        try:
            piece = await self._read()
        except LostError as e:
            return await self._broke(e.reason, e)
        self._flight.pieces += 1
        self.waited = self.elapsed()
        return await self._uneven(piece)

    def _leave(self) -> None:
        self.worker.flights.discard(self._flight)
        self._response.close()

    def close(self) -> None:
        """Ends it; a connection whose answer isn't finished is closed, so that the engine stops generating."""
        self.worker.flights.discard(self._flight)
        if self.done:
            self._response.release()
        else:
            self._response.close()


class Relay:
    """on_failover: told who takes over, why, and whether the answer had begun; on_fault: whose fault it was."""

    def __init__(
        self,
        fleet: Fleet,
        balancer: Balancer,
        client: aiohttp.ClientSession,
        on_failover: Callable[[Failover], None],
        on_fault: Callable[[str], None],
        wire: Wire,
    ) -> None:
        self._fleet, self._balancer, self._wire = fleet, balancer, wire
        self._on_failover, self._on_fault = on_failover, on_fault
        self.elsewhere = Elsewhere(fleet, balancer, client)

    async def open(self, call: Call) -> Reply:
        """The answer of the first worker that gives one. Raises Refusal: 502 or 503.

        An error answer (404 because the worker lost the model, 5xx) is handed on only when no other worker does better.
        """
        tried: set[str] = set()
        again: set[str] = set()
        kept: Reply | None = None
        before = lost = ""
        while True:
            candidates = [w for w in self._fleet.asked(call.model, call.wish.worker) if w.name not in tried]
            if not candidates:
                if kept is not None:
                    return kept
                raise _nobody(call, lost)
            now = time.monotonic()
            worker = self._balancer.choose(self._fleet.admitted(candidates, now), call)
            self._fleet.sent(worker, now)
            if kept is not None:
                reason = f"{kept.worker.name} answered {kept.status}"
                self._on_failover(Failover(kept.worker.name, worker.name, call.model, reason, "start"))
            elif lost and before != worker.name:
                self._on_failover(Failover(before, worker.name, call.model, lost, "start"))
            try:
                reply = await self._attempt(worker, call, now)
            except LostError as e:
                before, lost = worker.name, f"{worker.name}: {e.reason}"
                if e.alive and worker.name not in again:
                    again.add(worker.name)  # a kept connection that had died: the worker deserves a fresh one
                    continue
                tried.add(worker.name)
                self._on_fault(worker.name)
                self.lost(worker, e.reason)
                if not e.alive:
                    self._fleet.failed(worker, e.reason, time.monotonic(), certain=True)
                continue
            except BaseException:
                self._fleet.unsent(worker)
                if kept is not None:
                    kept.close()
                raise
            if reply.status < 500 and reply.status != 404:
                if kept is not None:
                    self._better(kept)
                self._fleet.proved(worker, now)
                return reply
            tried.add(worker.name)
            failed(f"it answered {reply.status}")
            if reply.status >= 500:
                self._on_fault(worker.name)
            worker.suspect.set()
            reply.close()  # its body is here already; the worker is free again
            if kept is not None:
                kept.close()
            kept = reply

    def _better(self, kept: Reply) -> None:
        """Another worker could: it wasn't the request's fault that this one couldn't."""
        if kept.status >= 500:
            self._fleet.blamed(kept.worker, f"it answered {kept.status}", time.monotonic())
        kept.close()

    def lost(self, worker: Worker, reason: str) -> None:
        self._fleet.blamed(worker, reason, time.monotonic())
        worker.suspect.set()

    def resumed(self, before: Worker, worker: Worker, model: str, reason: str) -> None:
        """An answer that the one had begun goes on at the other."""
        failed(reason)
        attempted(worker.name)
        self._on_fault(before.name)
        self._on_failover(Failover(before.name, worker.name, model, f"{before.name}: {reason}", "stream"))

    async def _attempt(self, worker: Worker, call: Call, now: float) -> Reply:
        task = asyncio.current_task()
        assert task is not None
        flight = Flight(task, now, call.model, len(call.body), streams=not call.whole)
        started = time.perf_counter()
        worker.flights.add(flight)
        attempted(worker.name)
        response = None
        try:
            response = await self._wire.post(worker.url(call.path), call.body)
            flight.response = response
            _must_be_an_engines(response)
            whole = call.whole or response.status >= 400
            form = None if whole else FORMS.get(call.path)
            reply = Reply(self, call, worker, flight, response, started=started, form=form)
            await reply.begin(whole=whole)
            return reply
        except BaseException as e:
            failed(flight.lost or repr(e))
            worker.flights.discard(flight)
            if response is not None:
                response.close()
            if flight.lost and isinstance(e, (*BROKEN, asyncio.CancelledError)):
                if isinstance(e, asyncio.CancelledError):
                    task.uncancel()
                raise LostError(flight.lost) from None
            if isinstance(e, (UnreachableError, TimeoutError)):
                raise LostError(worded(e)) from e
            if isinstance(e, BROKEN):
                raise LostError(worded(e), alive=True) from e
            raise


async def _read_whole(response: Response) -> bytes:
    """Raises Refusal for one that no memory would hold, from whichever worker it came."""
    body = await response.content.readany()
    if response.content.at_eof():
        return body
    pieces, size = [body], len(body)
    while piece := await response.content.readany():
        pieces.append(piece)
        size += len(piece)
        if size > ANSWER_LIMIT:
            text = (
                f"the worker's answer is larger than {ANSWER_LIMIT // (1024 * 1024)} MiB; ask for a stream, or for less"
            )
            raise Refusal(502, "answer_too_large", text)
    return b"".join(pieces)


def _must_be_an_engines(response: Response) -> None:
    """Something else may answer at a worker's address: a login page, a proxy that knows better. Raises LostError."""
    if 300 <= response.status < 400:
        raise LostError(f"it answered {response.status}, which no engine does", alive=True)
    if response.status == 200 and response.headers.get("Content-Type", "").startswith("text/html"):
        raise LostError("it answered a page, which no engine does", alive=True)


def worded(error: BaseException) -> str:
    if isinstance(error, UnreachableError):
        return f"can't connect: {error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"can't connect: {error.os_error.strerror or error.os_error}"
    if isinstance(error, TimeoutError):
        return "no connection in time"
    return f"the connection broke: {error or type(error).__name__}"


def _nobody(call: Call, lost: str) -> Refusal:
    if lost:
        text = f"no worker could answer for model '{call.asked}' ({lost})"
        return Refusal(502, "worker_lost", text, [_RETRY_AFTER])
    return Refusal(503, "no_worker", f"no healthy worker has model '{call.asked}' now", [_RETRY_AFTER])


__all__ = ["Failover", "LostError", "Relay", "Reply", "session"]
