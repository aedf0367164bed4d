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

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.balancing import Balancer
from cluster_ai.gateway.calls import Call
from cluster_ai.gateway.failover.elsewhere import BROKEN, Elsewhere
from cluster_ai.gateway.failover.forms import FORMS
from cluster_ai.gateway.failover.lost import LostError
from cluster_ai.gateway.fleet import Fleet, Worker
from cluster_ai.gateway.flight import Flight
from cluster_ai.gateway.reply import Reply, worded
from cluster_ai.gateway.tracing import attempted, failed
from cluster_ai.gateway.wire import Response, UnreachableError, Wire

Moment = Literal["start", "stream"]

_SKIPPED = ("Accept", "Accept-Encoding", "User-Agent")
_RETRY_AFTER = (b"retry-after", b"2")


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


def _must_be_an_engines(response: Response) -> None:
    """Something else may answer at a worker's address: a login page, a proxy that knows better. Raises LostError."""
    if 300 <= response.status < 400:
        raise LostError(f"it answered {response.status}, which no engine does", alive=True)
    if response.status == 200 and response.headers.get("Content-Type", "").startswith("text/html"):
        raise LostError("it answered a page, which no engine does", alive=True)


def _nobody(call: Call, lost: str) -> Refusal:
    if lost:
        text = f"no worker could answer for model '{call.asked}' ({lost})"
        return Refusal(502, "worker_lost", text, [_RETRY_AFTER])
    return Refusal(503, "no_worker", f"no healthy worker has model '{call.asked}' now", [_RETRY_AFTER])


__all__ = ["Failover", "LostError", "Relay", "Reply", "session"]
