"""Carries a call to a worker and its answer back. Before the first byte a fault means another worker, then an error.

The rest of the gateway knows only Relay.open, Reply.next and Reply.close, so that this can be replaced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.balancing import Balancer
from cluster_ai.gateway.calls import Call
from cluster_ai.gateway.fleet import Fleet, Flight, Worker

_HEADERS = {"content-type": "application/json"}
_SKIPPED = ("Accept", "Accept-Encoding", "User-Agent")
_RETRY_AFTER = (b"retry-after", b"2")
_BROKEN = (aiohttp.ClientError, OSError, TimeoutError)


class LostError(Exception):
    """The worker stopped answering. alive: it may be well, only this connection isn't."""

    def __init__(self, reason: str, *, alive: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.alive = reason, alive


def session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """How the relay wants to talk: as many connections as there are requests, no limit on how long an answer takes."""
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_SKIPPED,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=3),
    )


class Reply:
    """An answer that has begun. first is its first piece, or all of it when done; waited: seconds until it came."""

    __slots__ = ("_flight", "_response", "_started", "content_type", "done", "first", "status", "waited", "worker")

    def __init__(
        self,
        worker: Worker,
        flight: Flight,
        response: aiohttp.ClientResponse,
        first: bytes,
        *,
        started: float,
        done: bool,
    ) -> None:
        self.worker, self.first, self.done = worker, first, done
        self._started = started
        self.waited = self.elapsed()
        self.status = response.status
        self.content_type = response.headers.get("Content-Type", "application/json").encode("latin-1")
        self._flight, self._response = flight, response

    def elapsed(self) -> float:
        """Seconds since this worker was asked."""
        return time.perf_counter() - self._started

    async def next(self) -> bytes:
        """The next piece; empty at the end. Raises LostError when the stream broke."""
        try:
            piece = await self._response.content.readany()
        except _BROKEN as e:
            raise LostError(_worded(e)) from e
        except asyncio.CancelledError:
            if not self._flight.lost:
                raise
            _uncancel()
            raise LostError(self._flight.lost) from None
        self._flight.last_byte = time.monotonic()
        if not piece:
            self.done = True
        return piece

    def close(self) -> None:
        """Ends it; a connection whose answer isn't finished is closed, so that the engine stops generating."""
        self.worker.flights.discard(self._flight)
        if self.done:
            self._response.release()
        else:
            self._response.close()


class Relay:
    def __init__(
        self,
        fleet: Fleet,
        balancer: Balancer,
        client: aiohttp.ClientSession,
        on_failover: Callable[[Worker, str], None],
        on_fault: Callable[[str], None],
    ) -> None:
        self._fleet, self._balancer, self._client = fleet, balancer, client
        self._on_failover, self._on_fault = on_failover, on_fault

    async def open(self, call: Call) -> Reply:
        """The answer of the first worker that gives one. Raises Refusal: 502 or 503.

        An error answer (404 because the worker lost the model, 5xx) is handed on only when no other worker does better.
        """
        tried: set[str] = set()
        again: set[str] = set()
        kept: Reply | None = None
        lost = ""
        while True:
            candidates = [w for w in self._fleet.asked(call.model, call.wish.worker) if w.name not in tried]
            if not candidates:
                if kept is not None:
                    return kept
                raise _nobody(call, lost)
            worker = self._balancer.choose(candidates, call)
            if kept is not None:
                self._on_failover(worker, f"{kept.worker.name} answered {kept.status}")
            elif lost:
                self._on_failover(worker, lost)
            try:
                reply = await self._attempt(worker, call)
            except LostError as e:
                lost = f"{worker.name}: {e.reason}"
                if e.alive and worker.name not in again:
                    again.add(worker.name)  # a kept connection that had died: the worker deserves a fresh one
                    continue
                tried.add(worker.name)
                self._on_fault(worker.name)
                if not e.alive:
                    self._fleet.failed(worker, e.reason, time.monotonic(), certain=True)
                worker.suspect.set()
                continue
            except BaseException:
                if kept is not None:
                    kept.close()
                raise
            if kept is not None:
                kept.close()
                kept = None
            if reply.status < 500 and reply.status != 404:
                return reply
            tried.add(worker.name)
            if reply.status >= 500:
                self._on_fault(worker.name)
            worker.suspect.set()
            reply.close()  # its body is here already; the worker is free again
            kept = reply

    async def _attempt(self, worker: Worker, call: Call) -> Reply:
        task = asyncio.current_task()
        assert task is not None
        flight = Flight(task, time.monotonic())
        started = time.perf_counter()
        worker.flights.add(flight)
        response = None
        try:
            response = await self._client.post(
                worker.url(call.path), data=call.body, headers=_HEADERS, allow_redirects=False
            )
            whole = call.whole or response.status >= 400
            first = await (_read_whole(response) if whole else response.content.readany())
            flight.last_byte = time.monotonic()
            return Reply(worker, flight, response, first, started=started, done=whole or response.content.at_eof())
        except BaseException as e:
            worker.flights.discard(flight)
            if response is not None:
                response.close()
            if isinstance(e, (aiohttp.ClientConnectorError, TimeoutError)):
                raise LostError(_worded(e)) from e
            if isinstance(e, _BROKEN):
                raise LostError(_worded(e), alive=True) from e
            if isinstance(e, asyncio.CancelledError) and flight.lost:
                _uncancel()
                raise LostError(flight.lost) from None
            raise


async def _read_whole(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.readany()
    if response.content.at_eof():
        return body
    pieces = [body]
    while piece := await response.content.readany():
        pieces.append(piece)
    return b"".join(pieces)


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _worded(error: BaseException) -> str:
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
