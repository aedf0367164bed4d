"""Looks over all streams twice a second: learns how fast they are, and gives up those that went silent."""

from __future__ import annotations

import asyncio
import time

from cluster_ai.gateway.failover.pace import PATIENCE, Pace
from cluster_ai.gateway.fleet import Fleet, Worker
from cluster_ai.gateway.flight import Flight
from cluster_ai.gateway.log import Log

TICK = 0.5  # seconds


class StallWatch:
    def __init__(self, fleet: Fleet, log: Log) -> None:
        self._fleet, self._log = fleet, log
        self._last = 0.0

    async def run(self) -> None:
        self._last = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            self.sweep(time.monotonic())

    def sweep(self, now: float) -> None:
        """A stall counts in what this sees of it: a gateway that was itself held up must not blame its workers."""
        passed, self._last = min(now - self._last, 2 * TICK), now
        for worker in self._fleet.workers.values():
            for flight in [f for f in worker.flights if f.streams and not f.lost]:
                self._look(worker, flight, passed, now)
            self._fleet.settle(worker, now)

    def _look(self, worker: Worker, flight: Flight, passed: float, now: float) -> None:
        pace = worker.paces.get(flight.model)
        if pace is None:
            pace = worker.paces[flight.model] = Pace()
        fresh = flight.pieces - flight.seen
        if fresh:
            if not flight.seen:
                pace.began(flight.idle)
            elif flight.idle:
                pace.paused(flight.idle)
            else:
                pace.streamed(fresh, passed)
            flight.seen, flight.idle, flight.last_byte = flight.pieces, 0.0, now
        elif flight.waiting:
            flight.idle += passed
            if flight.idle > self._limit(worker, flight, pace):
                self._give_up(worker, flight)

    def _limit(self, worker: Worker, flight: Flight, pace: Pace) -> float:
        if flight.seen:
            limit = pace.limit()
        else:
            ahead = worker.in_flight / max(worker.slots, 1)
            limit = pace.first_limit(flight.size, loaded=flight.model in worker.loaded, ahead=ahead)
        others = any(other is not worker for other in self._fleet.able(flight.model))
        return limit if others else limit * PATIENCE

    def _give_up(self, worker: Worker, flight: Flight) -> None:
        worker.stalls += 1
        reason = f"nothing came for {flight.idle:.0f} s"
        self._log.write("stall", worker=worker.name, model=flight.model, seconds=round(flight.idle, 1))
        flight.abort(reason)
