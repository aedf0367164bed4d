"""Keeps every model served as cluster.yaml says while workers are lost and come back: looks, has placement/repair.py
decide, and does it.

It moves nothing while a rollout goes on, nor on workers that are cordoned. Each step is a task of its own, so that a
long download keeps no other model waiting; one that fails is tried again after a while, elsewhere where it can be.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from cluster_ai.gateway.fleet import Fleet, State, Worker
from cluster_ai.gateway.log import Log
from cluster_ai.gateway.metering import Meter
from cluster_ai.gateway.models.actuator import Actuator
from cluster_ai.gateway.models.registry import Registry
from cluster_ai.gateway.models.stand_ins import StandIns
from cluster_ai.placement import repair
from cluster_ai.placement.repair import Repairs, Short, StandIn, Step
from cluster_ai.placement.room import Held, Processor

EVERY = 2.0  # seconds between two looks
GRACE = 10.0  # seconds that a worker must be away before others take over, for an engine that only restarts
AGAIN = 15.0, 600.0  # seconds until a step that failed is tried again: at first, and at most

Key = tuple[str, str]  # model, worker


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: str
    times: int
    until: float  # monotonic


class Reconciler:
    def __init__(
        self,
        fleet: Fleet,
        registry: Registry,
        stand_ins: StandIns,
        actuator: Actuator,
        meter: Meter,
        log: Log,
        paused: Callable[[], str],
    ) -> None:
        """paused: why nothing may be moved now; empty: it may."""
        self._fleet, self._registry, self._stand_ins, self._actuator = fleet, registry, stand_ins, actuator
        self._meter, self._log, self._paused = meter, log, paused
        self._under_way: dict[Key, tuple[Step, asyncio.Task[None]]] = {}
        self._failed: dict[Key, _Failed] = {}
        self._told: tuple[str, tuple[Short, ...]] = ("", ())
        for name in registry.named:
            meter.expect_repairs(name)

    @property
    def short(self) -> tuple[Short, ...]:
        """Replicas that nobody can take over, as of the last look."""
        return self._told[1]

    async def run(self) -> None:
        """Until it is cancelled, and its steps with it."""
        try:
            while True:
                try:
                    paused = self._paused()
                    if not paused and self._told[0]:
                        await asyncio.to_thread(self._stand_ins.read)
                    self._turn(paused)
                except Exception as e:  # a fault of ours must not end it
                    self._log.write("fault", exception="".join(traceback.format_exception(e)))
                await asyncio.sleep(EVERY)
        finally:
            tasks = [task for _, task in self._under_way.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _turn(self, paused: str) -> None:
        plan = Repairs() if paused else self._plan()
        self._tell(paused, plan.short)
        for step in plan.steps:
            self.begin(step)
        if not paused:
            for worker in self._fleet.active():
                if worker.lacks:
                    self._warm(worker)

    def _warm(self, worker: Worker) -> None:
        """Have an engine that was away get back what it had in memory, what was used last first, as far as it fits."""
        seat = next(it for it in self._registry.seats() if it.worker == worker.name)
        lacking = (worker.lacks & worker.present.keys()) - worker.loaded
        worker.lacks = frozenset()
        for name in sorted(lacking, key=lambda name: (-worker.used.get(name, 0.0), name)):
            wanted = self._registry.wanted(name)
            processor = seat.fits(wanted) if wanted else None
            if wanted is not None and (processor or seat.budget is None):
                seat = seat.with_model(name, Held(processor or "cpu", wanted.need.memory))
                reason = "it was in memory before the engine was away"
                self.begin(Step("load", name, worker.name, processor or "cpu", reason))

    def begin(self, step: Step) -> None:
        """Takes a step in the background, unless one is under way there, or has failed a moment ago."""
        key = step.model, step.worker
        if key not in self._under_way and not self._waits(key):
            task = asyncio.create_task(self._take(step), name=f"{step.do}:{step.model}:{step.worker}")
            self._under_way[key] = step, task

    def coming(self, model: str) -> set[str]:
        """Workers that are getting it now."""
        begun = (step for step, _ in self._under_way.values())
        return {step.worker for step in begun if step.model == model and step.do in ("load", "fetch")}

    def works_on(self, worker: str) -> bool:
        """Whether a step is under way there."""
        return any(name == worker for _, name in self._under_way)

    def failing(self, model: str) -> set[str]:
        """Workers on which a step for it isn't tried again yet."""
        return {worker for name, worker in self._failed if name == model and self._waits((name, worker))}

    def paused(self) -> str:
        """Why nothing may be moved now; empty: it may, and who stands in is known again."""
        return self._paused() or self._told[0]

    def _plan(self) -> Repairs:
        now, models = time.time(), self._registry.all_named()
        placed: dict[str, dict[str, Processor]] = {}
        for worker in self._fleet.workers.values():
            for name in worker.placed:
                placed.setdefault(name, {})[worker.name] = "gpu" if name in worker.on_cards else "cpu"
        fleet = repair.Fleet(
            seats=self._registry.seats(),
            placed=placed,
            lost=dict(self._lost(time.monotonic(), now)),
            loaded={m.name: frozenset(w.name for w in self._fleet.able(m.name) if m.name in w.loaded) for m in models},
            failed={key: it.reason for key, it in self._failed.items() if self._waits(key)},
        )
        begun = (step for step, _ in self._under_way.values() if step.instead_of and step.do in ("load", "fetch"))
        coming = [StandIn(s.model, s.worker, s.instead_of, s.processor, s.do == "fetch", now) for s in begun]
        return repair.repair(models, fleet, [*self._stand_ins, *coming], now)

    def _lost(self, monotonic: float, now: float) -> Iterator[tuple[str, str]]:
        for worker in self._fleet.workers.values():
            since, cordon = worker.health.failing_since, worker.cordon
            gone = since is not None and monotonic - since >= GRACE
            if worker.kept_out or (worker.state is State.DOWN and gone):
                yield worker.name, worker.reason
            elif cordon is not None and cordon.drained and now - cordon.since >= GRACE:
                yield worker.name, str(cordon)

    def _waits(self, key: Key) -> bool:
        failed = self._failed.get(key)
        return failed is not None and time.monotonic() < failed.until

    def _tell(self, paused: str, short: tuple[Short, ...]) -> None:
        """What nothing can be done about, once."""
        if paused != self._told[0]:
            self._log.write("reconcile", paused=paused)
        for it in short:
            if it not in self._told[1]:
                self._log.write("reconcile", short=it.model, instead_of=it.worker, reason=it.reason)
        if not paused:
            self._meter.replicas_short({m: sum(it.model == m for it in short) for m in self._registry.named})
        self._told = paused, self._told[1] if paused else short

    async def _take(self, step: Step) -> None:
        key, begun, worker = (step.model, step.worker), time.monotonic(), self._fleet.workers[step.worker]
        told = {"do": step.do, "model": step.model, "worker": step.worker, "reason": step.reason}
        self._log.write("reconcile", **told)
        try:
            await self._do(step, worker)
        except Exception as e:  # also a file that can't be read: without a wait it would be tried at every look
            times = self._failed[key].times + 1 if key in self._failed else 1
            wait = min(AGAIN[1], AGAIN[0] * 2 ** min(times - 1, 10))  # unbounded, it is no float after some days
            error = str(e) or repr(e)
            self._failed[key] = _Failed(error, times, time.monotonic() + wait)
            self._meter.repaired(step.model, step.do, done=False)
            self._log.write("reconcile", **told, error=error, again_in=wait)
        else:
            self._failed.pop(key, None)
            self._meter.repaired(step.model, step.do, done=True)
            self._log.write("reconcile", **told, done=True, seconds=round(time.monotonic() - begun, 2))
        finally:
            self._under_way.pop(key, None)

    async def _do(self, step: Step, worker: Worker) -> None:
        if step.do == "fetch":
            await self._actuator.fetch(self._registry.named[step.model], worker, step.processor)
        if step.do in ("fetch", "load"):
            await self._actuator.load(step.model, worker)
            if step.instead_of:
                fetched = step.do == "fetch"
                it = StandIn(step.model, worker.name, step.instead_of, step.processor, fetched, time.time())
                await asyncio.to_thread(self._stand_ins.add, it)
            return
        if step.do == "unload":
            await self._actuator.unload(step.model, worker)
            return
        stand_in = self._stand_ins.of(step.model, worker.name)
        if step.do == "adopt" and stand_in is not None:
            adopted = replace(stand_in, instead_of=step.instead_of, since=time.time())
            await asyncio.to_thread(self._stand_ins.add, adopted)
            return
        if step.do == "release" and stand_in is not None and step.model in worker.present:
            await self._actuator.unload(step.model, worker)
            if stand_in.fetched:
                await self._actuator.delete(step.model, worker)
        await asyncio.to_thread(self._stand_ins.remove, step.model, worker.name)
