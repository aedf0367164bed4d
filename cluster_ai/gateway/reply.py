"""An answer on its way to a client: cut so that it can go on elsewhere, and going on elsewhere where it breaks."""

from __future__ import annotations

import time
from typing import Protocol

import aiohttp

from cluster_ai.gateway.api.http import Refusal, encode
from cluster_ai.gateway.calls import Call
from cluster_ai.gateway.failover.elsewhere import BROKEN, Elsewhere
from cluster_ai.gateway.failover.forms import Form
from cluster_ai.gateway.failover.kept import Kept
from cluster_ai.gateway.failover.lost import LostError
from cluster_ai.gateway.failover.onward import Onward
from cluster_ai.gateway.failover.said import UnresumableError
from cluster_ai.gateway.failover.seam import ERROR, Seam, gives_up
from cluster_ai.gateway.fleet import Worker
from cluster_ai.gateway.flight import Flight
from cluster_ai.gateway.wire import Response, UnreachableError

ANSWER_LIMIT = 128 * 1024 * 1024  # bytes of an answer in one piece
RESUMES = 3  # of one answer: what breaks more often may be what breaks the engines

_EARLY = "it ended before its end"


class Home(Protocol):
    """What an answer needs of the relay when it breaks."""

    @property
    def elsewhere(self) -> Elsewhere: ...

    def lost(self, worker: Worker, reason: str) -> None: ...

    def resumed(self, before: Worker, worker: Worker, model: str, reason: str) -> None: ...


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
        "_home",
        "_kept",
        "_onward",
        "_over",
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
        home: Home,
        call: Call,
        worker: Worker,
        flight: Flight,
        response: Response,
        *,
        started: float,
        form: Form | None,
    ) -> None:
        self._home, self._call, self.worker, self._flight, self._response = home, call, worker, flight, response
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
        self._home.lost(lost, reason)
        self._leave()
        try:
            if form is None or self._resumes >= RESUMES:
                raise UnresumableError("such answers aren't resumed" if form is None else "it broke off too often")
            if not self._kept.whole:
                raise UnresumableError("it is too long")
            seconds = time.perf_counter() - self._streamed
            resumed = await self._home.elsewhere.resume(self._call, form, self._kept.read(), lost, seconds)
        except UnresumableError as e:
            if given_up:  # the client is told what the engine said
                self._over = self.done = True
                self._kept.add(given_up)
                return given_up
            raise LostError(f"{reason}; and it can't go on elsewhere: {e.reason}") from cause
        self._home.resumed(lost, resumed.worker, self._call.model, reason)
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


def worded(error: BaseException) -> str:
    if isinstance(error, UnreachableError):
        return f"can't connect: {error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"can't connect: {error.os_error.strerror or error.os_error}"
    if isinstance(error, TimeoutError):
        return "no connection in time"
    return f"the connection broke: {error or type(error).__name__}"
