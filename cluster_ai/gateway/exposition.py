"""What Prometheus is told beside the meter's own counters: read from the fleet and the membership at each scrape.

So a worker or model that is gone leaves no stale series.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cluster_ai.cluster.membership import Membership, View
from cluster_ai.gateway.admission.gate import Gate
from cluster_ai.gateway.failover import breaker
from cluster_ai.gateway.fleet import Fleet, State
from cluster_ai.gateway.metering import Meter
from cluster_ai.metrics import names
from cluster_ai.metrics.names import Metric

Family = GaugeMetricFamily | CounterMetricFamily
_OPENNESS = {breaker.State.CLOSED: 0, breaker.State.HALF_OPEN: 0.5, breaker.State.OPEN: 1}

Samples = Sequence[tuple[tuple[str, ...], float]]


class Exposition(Collector):
    def __init__(self, fleet: Fleet, membership: Membership, meter: Meter, gate: Gate) -> None:
        self._fleet, self._membership, self._meter, self._gate = fleet, membership, meter, gate

    def collect(self) -> Iterator[Family]:
        view = self._membership.view
        yield _gauge(names.ACTIVE_WORKERS, [((), len(self._fleet.active()))])
        yield _gauge(names.SCHEDULER_UP, [((), self._membership.connected)])
        yield from self._tasks(view)
        yield from self._workers(view)
        yield from _hosts(view)
        yield _gauge(names.QUEUE_LENGTH, [((model,), n) for model, n in self._gate.waiting().items()])
        ready = [((m,), sum(m in w.loaded for w in self._fleet.able(m))) for m in sorted(self._fleet.contexts)]
        yield _gauge(names.MODEL_READY, ready)
        yield _gauge(names.CACHE_HIT_RATE, [((model,), rate.share) for model, rate in self._meter.hits.items()])

    def _tasks(self, view: View | None) -> Iterator[Family]:
        own = self._meter.tasks
        total, failed = [(("inference",), own.total)], [(("inference",), own.failed)]
        if view is not None and view.tasks is not None:
            total.append((("dask",), view.tasks.total))
            failed.append((("dask",), view.tasks.failed))
        yield _counter(names.TOTAL_TASKS, total)
        yield _counter(names.FAILED_TASKS, failed)

    def _workers(self, view: View | None) -> Iterator[Family]:
        every = self._fleet.workers.values()
        yield _gauge(names.WORKER_ASLEEP, [((w.name,), w.asleep) for w in every if w.upstream.standby])
        workers = [w for w in every if w.state is not State.ASLEEP]
        members = view.members if view is not None else {}
        up = [((w.name,), w.state in (State.ACTIVE, State.DRAINING)) for w in workers]
        yield _gauge(names.WORKER_UP, up)
        yield _gauge(names.IN_FLIGHT, [((w.name,), w.in_flight) for w in workers])
        busy = [((w.name,), w.in_flight + (members[w.name].executing if w.name in members else 0)) for w in workers]
        yield _gauge(names.WORKER_TASKS, busy)
        yield _gauge(names.WORKER_PROCESSES, [((m.name,), m.processes) for m in members.values()])
        loaded = [
            ((w.name, model), model in w.loaded)
            for w, (_, is_up) in zip(workers, up, strict=True)
            if is_up
            for model in sorted(w.present)
        ]
        yield _gauge(names.WORKER_MODEL_LOADED, loaded)
        yield _counter(names.WORKER_STALLS, [((w.name,), w.stalls) for w in workers])
        now = time.monotonic()
        yield _gauge(names.WORKER_BREAKER, [((w.name,), _OPENNESS[w.breaker.state(now)]) for w in workers])
        yield _gauge(names.WORKER_FLAWED, [((w.name, m), m in w.flaws) for w in workers for m in sorted(w.on_cards)])


def _hosts(view: View | None) -> Iterator[Family]:
    reports = [m.report for m in view.members.values() if m.report is not None] if view is not None else []
    cpu = [((r.worker,), r.cpu) for r in reports if r.cpu is not None]
    yield _gauge(names.WORKER_CPU, cpu)
    yield _gauge(names.WORKER_MEMORY, [((r.worker,), r.memory_used) for r in reports])
    yield _gauge(names.WORKER_MEMORY_CAPACITY, [((r.worker,), r.memory_total) for r in reports])
    cards = [((r.worker, str(g.index)), g) for r in reports for g in r.gpus]
    yield _gauge(names.WORKER_GPU_MEMORY, [(labels, g.memory_used) for labels, g in cards if g.memory_used is not None])
    room = [(labels, g.memory_total) for labels, g in cards if g.memory_total is not None]
    yield _gauge(names.WORKER_GPU_MEMORY_CAPACITY, room)
    yield _gauge(names.WORKER_GPU_USAGE, [(labels, g.usage) for labels, g in cards if g.usage is not None])
    warm = [(labels, g.temperature) for labels, g in cards if g.temperature is not None]
    yield _gauge(names.WORKER_GPU_TEMPERATURE, warm)
    yield _gauge(names.WORKER_GPU_POWER, [(labels, g.power) for labels, g in cards if g.power is not None])


def _gauge(metric: Metric, samples: Samples) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


def _counter(metric: Metric, samples: Samples) -> CounterMetricFamily:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family
