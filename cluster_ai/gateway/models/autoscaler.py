"""More replicas of a model while there is much to do: measures, has scaling/policy.py decide, the reconciler acts.

Placed workers are used first, then others where the model fits, as for a lost worker. It moves nothing while the
reconciler may not.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from cluster_ai.gateway.admission.gate import Gate
from cluster_ai.gateway.api.native.figures import families
from cluster_ai.gateway.fleet import Fleet, State, Worker
from cluster_ai.gateway.log import Log
from cluster_ai.gateway.metering import Meter
from cluster_ai.gateway.models.decisions import Decided, Decisions
from cluster_ai.gateway.models.history import History
from cluster_ai.gateway.models.reconciler import Reconciler
from cluster_ai.gateway.models.registry import Registry
from cluster_ai.gateway.models.stand_ins import StandIns
from cluster_ai.gateway.models.standby import Standby
from cluster_ai.metrics import names
from cluster_ai.placement.repair import LOAD, Do, StandIn, Step
from cluster_ai.placement.room import Processor, Wanted, choices
from cluster_ai.scaling.policy import Decision, Load, Policy, Scaler, Window
from cluster_ai.settings import ScaleSettings

SAMPLE, EVERY = 5.0, 15.0  # seconds between two samples, and two decisions
SPAN = 60.0  # seconds whose mean counts


@dataclass(slots=True)
class _Model:
    told: ScaleSettings
    scaler: Scaler
    asked: float  # monotonic, of the last request
    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=int(SPAN / SAMPLE)))
    queued: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=int(SPAN / SAMPLE) + 1))
    last: tuple[int, int] | None = None  # of the last decision


class Autoscaler:
    def __init__(
        self,
        fleet: Fleet,
        gate: Gate,
        registry: Registry,
        stand_ins: StandIns,
        reconciler: Reconciler,
        history: History,
        decisions: Decisions,
        standby: Standby,
        meter: Meter,
        metrics: CollectorRegistry,
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC).astimezone(),
    ) -> None:
        self._fleet, self._gate, self._registry, self._stand_ins = fleet, gate, registry, stand_ins
        self._reconciler, self._history, self._decisions, self._meter = reconciler, history, decisions, meter
        self._standby, self._metrics, self._log, self._now = standby, metrics, log, now
        begun = time.monotonic()
        scaled = ((name, it.scale) for name, it in registry.named.items() if it.scale is not None)
        self._models = {name: _Model(told, Scaler(policy_of(told)), begun) for name, told in scaled}

    async def run(self) -> None:
        """Until it is cancelled; at once where no model is scaled."""
        turns = 0
        while self._models or any(it.instead_of == LOAD for it in self._stand_ins):
            try:
                self._sample(time.monotonic())
                if turns % max(1, round(EVERY / SAMPLE)) == 0 and not self._reconciler.paused() and self._known():
                    for name, model in self._models.items():
                        await self._decide(name, model)
                    self._tidy()
            except Exception as e:  # a fault of ours must not end it
                self._log.write("fault", exception="".join(traceback.format_exception(e)))
            turns += 1
            await asyncio.sleep(SAMPLE)

    def used(self, models: Iterable[str]) -> None:
        """Tasks had them answer. They ask engines directly: no request of theirs comes through the gateway."""
        for name in self._models.keys() & set(models):
            self._models[name].asked = time.monotonic()

    def _known(self) -> bool:
        """Whether each worker has said what it has in memory, or doesn't answer."""
        return all(worker.state is not State.JOINING for worker in self._fleet.workers.values())

    def _sample(self, now: float) -> None:
        requests, queued = self._gate.under_way(), self._queued()
        for name, model in self._models.items():
            # Who has an engine load a model, or asks what it is, wants it to be there, but no other replica.
            wanted = any(f.model == name for w in self._fleet.workers.values() for f in w.flights)
            count, seconds = queued.get(name, (0.0, 0.0))
            if wanted or requests.get(name) or (model.queued and count > model.queued[-1][0]):
                model.asked = now
            model.samples.append((now, requests.get(name, 0)))
            model.queued.append((count, seconds))

    def _queued(self) -> dict[str, tuple[float, float]]:
        """By model: how many requests came to a slot since the gateway's start, and how long they waited in all."""
        found: dict[str, dict[str, float]] = {}
        for sample in families(self._metrics, names.QUEUE_TIME.name)[names.QUEUE_TIME.name].samples:
            found.setdefault(sample.labels["model"], {})[sample.name.removeprefix(names.QUEUE_TIME.name)] = sample.value
        return {model: (it.get("_count", 0.0), it.get("_sum", 0.0)) for model, it in found.items()}

    async def _decide(self, name: str, model: _Model) -> None:
        ahead = model.told.ahead
        forecast = await self._history.forecast(name) if ahead else None
        replicas, now = self._replicas(name), time.monotonic()
        coming = self._reconciler.coming(name)
        (first, waited), (last, all_waited) = model.queued[0], model.queued[-1]
        load = Load(
            replicas=len(replicas),
            in_flight=sum(count for _, count in model.samples) / len(model.samples),
            # Requests go on waiting until the one more that they asked for is there.
            queue_time=(all_waited - waited) / (last - first) if last > first and not coming else 0.0,
            idle=now - model.asked,
            forecast=forecast.most(time.time(), ahead) if forecast else None,
        )
        decision = model.scaler.decide(load, self._now())
        self._meter.replicas_wanted(name, decision.replicas)
        if decision.replicas == load.replicas:
            model.last = None
        else:
            await self._tell(name, model, load, decision)
        if not model.told.dry_run:
            self._act(name, replicas, decision)

    def _replicas(self, name: str) -> set[str]:
        """Workers that have it in memory, or are getting it; and lost ones for which nobody stands in yet.

        To find somebody is the reconciler's business.
        """
        there = {w.name for w in self._fleet.able(name) if name in w.loaded}
        covered = {it.instead_of for it in self._stand_ins if it.model == name}
        owners = (w for w in self._fleet.workers.values() if name in w.placed and w.state is not State.ACTIVE)
        lost = {w.name for w in owners if name in w.loaded and w.name not in covered}
        return there | lost | self._reconciler.coming(name)

    async def _tell(self, name: str, model: _Model, load: Load, decision: Decision) -> None:
        """Once, as long as it stays the same."""
        if model.last == (load.replicas, decision.replicas):
            return
        model.last = load.replicas, decision.replicas
        before, after = load.replicas, decision.replicas
        it = Decided(time.time(), "replicas", name, before, after, decision.reason, model.told.dry_run)
        await self._decisions.add(it)

    def _act(self, name: str, replicas: set[str], decision: Decision) -> None:
        more = decision.replicas - len(replicas)
        if more > 0:
            self._add(name, replicas, more, decision.reason)
            return
        self._remove(name, replicas, -more, decision)
        for it in self._added(name):
            if it.worker not in replicas:  # its engine was started anew, or let it go
                self._release(it, "it is out of memory, and not needed")

    def _add(self, name: str, replicas: set[str], more: int, reason: str) -> None:
        failing, named = self._reconciler.failing(name), self._registry.named[name]
        wanted = self._registry.wanted(name)
        assert wanted is not None  # cluster.yaml names it
        cold = [w for w in self._fleet.able(name) if w.name not in replicas | failing and self._owns(w, name)]
        for worker in cold[:more]:
            self._begin("load", name, worker, reason, self._instead_of(name, worker))
        others = [it for it in self._registry.seats() if it.worker not in replicas | failing | {w.name for w in cold}]
        fitting = choices(Wanted(name, wanted.need, named.replicas), others)
        if more > len(cold) + len(fitting):
            self._standby.want(wanted.need.memory, f"{name}: {reason}; no worker that is awake has room")
        for seat, processor in fitting[: max(0, more - len(cold))]:
            do: Do = "load" if name in seat.present else "fetch"
            self._reconciler.begin(Step(do, name, seat.worker, processor, reason, LOAD))

    def _owns(self, worker: Worker, name: str) -> bool:
        """Whether the model is there to stay, be it as a stand-in."""
        return name in worker.placed or self._stand_ins.of(name, worker.name) is not None

    def _instead_of(self, name: str, worker: Worker) -> str:
        it = self._stand_ins.of(name, worker.name)
        return it.instead_of if it else ""

    def _remove(self, name: str, replicas: set[str], fewer: int, decision: Decision) -> None:
        """Those that were added go first, the latest before others; what is placed leaves memory only when all do."""
        added = sorted(self._added(name), key=lambda it: -it.since)
        leaving = [it for it in added if it.worker in replicas][:fewer]
        for it in leaving:
            self._release(it, decision.reason)
        if decision.replicas == 0:
            for worker in self._fleet.able(name):
                if worker.name in replicas - {it.worker for it in leaving}:
                    self._begin("unload", name, worker, decision.reason, "")

    def _tidy(self) -> None:
        """What was added to a model that cluster.yaml scales no more."""
        for it in self._stand_ins:
            if it.instead_of == LOAD and it.model not in self._models:
                self._release(it, "it is scaled no more")

    def _added(self, name: str) -> list[StandIn]:
        return [it for it in self._stand_ins if it.model == name and it.instead_of == LOAD]

    def _release(self, it: StandIn, reason: str) -> None:
        worker = self._fleet.workers.get(it.worker)
        if worker is not None and worker.state is State.ACTIVE:
            self._reconciler.begin(Step("release", it.model, it.worker, it.processor, reason, LOAD))

    def _begin(self, do: Do, name: str, worker: Worker, reason: str, instead_of: str) -> None:
        processor: Processor = "gpu" if name in worker.on_cards else "cpu"
        self._reconciler.begin(Step(do, name, worker.name, processor, reason, instead_of))


def policy_of(told: ScaleSettings) -> Policy:
    return Policy(
        min=told.min,
        max=told.max,
        in_flight=float(told.in_flight),
        queue_time=told.queue_time,
        cool_down=told.cool_down,
        idle=told.idle,
        schedule=tuple(Window(frozenset(it.days), it.begin, it.end, it.replicas) for it in told.schedule),
    )
