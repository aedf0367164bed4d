"""The workers as the gateway sees them: their health, what they have, what they are doing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from yarl import URL

from cluster_ai.engine.client import EngineState, LoadedModel, PresentModel, canonical
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.failover.breaker import CLOSED, room
from cluster_ai.gateway.failover.flapping import Flapping
from cluster_ai.gateway.failover.pace import Pace
from cluster_ai.gateway.failover.processor import Speed, fallen
from cluster_ai.gateway.flight import Flight
from cluster_ai.gateway.metering import TIMED, Usage
from cluster_ai.gateway.speeds import Speeds
from cluster_ai.settings import GatewaySettings, Upstream

IN_MEMORY = 1.2  # how much more than its file a model takes there, with its cache
RESTART = 15.0  # seconds within which a worker that was lost may be back, as after a restart of its engine
SWITCH = 180.0  # and one that was drained, as by a rollout


class State(StrEnum):
    JOINING = "joining"  # hasn't answered yet
    ACTIVE = "active"
    DRAINING = "draining"  # finishes what it has, gets nothing new
    DOWN = "down"
    ASLEEP = "asleep"  # a standby host that was sent to sleep


@dataclass(frozen=True, slots=True)
class Health:
    """What the checks of one worker came to. answered: None before the first result."""

    answered: bool | None = None
    failures: int = 0  # in a row
    reason: str = ""
    failing_since: float | None = None

    def succeeded(self) -> Health:
        return Health(answered=True)

    def failed(self, reason: str, now: float, *, certain: bool) -> Health:
        """certain: it refused, or something answered for it. A timeout counts only when a second one follows."""
        failures = self.failures + 1
        down = certain or failures > 1 or self.answered is False
        since = now if self.failing_since is None else self.failing_since
        return replace(
            self, answered=False if down else self.answered, failures=failures, reason=reason, failing_since=since
        )


@dataclass(frozen=True, slots=True)
class Cordon:
    """Someone wants a worker to get nothing new. drained: what it has in Dask is moved away too."""

    reason: str
    since: float  # seconds since 1970
    drained: bool

    def __str__(self) -> str:
        what = "drained" if self.drained else "cordoned"
        return f"{what}: {self.reason}, since {self.when}" if self.reason else f"{what} since {self.when}"

    @property
    def when(self) -> str:
        return datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Worker:
    """One worker at run time; only Fleet and the relay change it."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.name = upstream.name
        self.slots = upstream.slots
        self.placed = frozenset(canonical(m) for m in upstream.models)
        self.health = Health()
        self.engine = EngineState("", (), ())
        self.present: dict[str, PresentModel] = {}
        self.loaded: frozenset[str] = frozenset()
        self.cordon: Cordon | None = None
        self.leaving = False  # Dask is closing it gracefully
        self.asleep = False  # it was sent to sleep; only models/standby.py changes it
        self.flights: set[Flight] = set()
        self.elsewhere = 0  # requests that gateways which end still have under way there
        self.suspect = asyncio.Event()  # a request met a fault: check now
        self.used: dict[str, float] = {}  # by model: when it last answered, seconds since 1970
        self.lacks: frozenset[str] = frozenset()  # models that it had in memory before its engine was away
        self.stated = {canonical(m): speed for m, speed in upstream.speeds.items()}  # by cluster.yaml
        self.speeds = Speeds(self.stated)
        self.on_cards = frozenset(canonical(m) for m in upstream.on_gpu)
        self.breaker = CLOSED
        self.flapping = Flapping()
        self.kept_out = ""  # why it should get nothing, though it answers
        self.spared = False  # others have all its models
        self.back: float | None = None  # since when, while it is taken in gently
        self.flaws: dict[str, str] = {}  # by model: why others answer for it, as long as there are others
        self.card_speeds: dict[str, Speed] = {}
        self.paces: dict[str, Pace] = {}
        self.stalls = 0  # streams that were given up because nothing came
        self._urls: dict[str, URL] = {}

    def admits(self, now: float) -> bool:
        """Whether it may get one more request, as far as its past says."""
        if not self.breaker.admits(now):
            return False
        most = None if self.back is None else room(self.slots, self.back, now)
        return most is None or self.in_flight < most

    def returns(self, now: float) -> bool:
        """Whether it is likely to get requests again in a moment, though it gets none now. now: monotonic."""
        if self.asleep:
            return False
        if self.cordon is not None:
            return self.cordon.drained and time.time() - self.cordon.since < SWITCH
        lost = self.health.failing_since
        return self.state is State.JOINING or (lost is not None and now - lost < RESTART)

    @property
    def in_flight(self) -> int:
        return len(self.flights) + self.elsewhere

    @property
    def state(self) -> State:
        if self.health.answered is None:
            return State.JOINING
        if not self.health.answered and self.asleep:
            return State.ASLEEP
        if not self.health.answered or (self.kept_out and self.spared):
            return State.DOWN
        return State.DRAINING if self.cordon or self.leaving else State.ACTIVE

    @property
    def reason(self) -> str:
        """Why it isn't active, or gets less than the others though it is; empty when all is well."""
        match self.state:
            case State.ACTIVE:
                return "; ".join(self._doubts())
            case State.DRAINING:
                return str(self.cordon) if self.cordon else "its Dask worker is closing"
            case State.ASLEEP:
                return "on standby, until it is needed"
            case _:
                why = self.kept_out or self.health.reason or "not checked yet"
                return f"{why}; {self.cordon}" if self.cordon else why

    def _doubts(self) -> Iterator[str]:
        if self.kept_out:
            yield f"{self.kept_out}, but for what nobody else has"
        if self.breaker.opened is not None:
            yield f"requests fail there: {self.breaker.reason}"
        yield from (f"{model} {flaw}" for model, flaw in sorted(self.flaws.items()))

    def url(self, path: str) -> URL:
        found = self._urls.get(path)
        if found is None:
            found = self._urls[path] = URL(self.upstream.url.rstrip("/") + path)
        return found

    def room(self, model: str) -> bool | None:
        """Whether the model fits beside what is loaded; None: unknown."""
        memory, wanted = self.upstream.memory, self.present.get(model)
        if memory is None or wanted is None:
            return None
        on_cards = self.upstream.gpu > 0
        taken = sum(m.size_vram if on_cards else m.size for m in self.engine.loaded)
        return wanted.size * IN_MEMORY <= memory - taken

    def speed(self, model: str) -> float | None:
        return self.speeds.get(model)

    def loaded_model(self, name: str) -> LoadedModel | None:
        return next((m for m in self.engine.loaded if m.name == name), None)


class Fleet:
    """All workers, and for each model who can answer now."""

    def __init__(self, settings: GatewaySettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.workers = {u.name: Worker(u) for u in settings.upstreams}
        self.contexts = {canonical(name): size for name, size in settings.models.items()}
        self._placed = frozenset(self.contexts).union(*(w.placed for w in self.workers.values()))
        self._able: dict[str, tuple[Worker, ...]] = {}
        self.changed: Callable[[], None] = lambda: None  # told after each change of who is able
        self._watched: set[str] = set()  # workers that may not get whatever comes

    def add(self, upstream: Upstream) -> Worker:
        """A worker that the configuration doesn't name. It gets nothing before it has answered a check."""
        worker = self.workers[upstream.name] = Worker(upstream)
        return worker

    def remove(self, worker: Worker) -> None:
        """What it has under way it finishes."""
        del self.workers[worker.name]
        self._index()

    def able(self, model: str) -> tuple[Worker, ...]:
        """Active workers that have the model; model is canonical."""
        return self._able.get(model, ())

    def awaited(self, model: str) -> bool:
        """Whether a worker that has the model, or is to have it, will be back in a moment."""
        now = time.monotonic()
        return any(w.returns(now) for w in self.workers.values() if model in w.placed or model in w.present)

    def count(self, elsewhere: Mapping[str, int]) -> None:
        """elsewhere: what other gateways have under way, by worker."""
        for worker in self.workers.values():
            worker.elsewhere = elsewhere.get(worker.name, 0)

    def asked(self, model: str, pinned: str) -> tuple[Worker, ...]:
        """Those who may answer; pinned: only the worker of this name, empty: all. Raises Refusal (404, 503)."""
        able = self.able(model)
        if not pinned:
            return able
        worker = self.workers.get(pinned)
        if worker is None:
            raise Refusal(404, "worker_not_found", f"there is no worker '{pinned}' (asked for by x-cluster-worker)")
        if worker.state is not State.ACTIVE:
            text = f"worker '{pinned}', asked for by x-cluster-worker, is {worker.state.value}: {worker.reason}"
            raise Refusal(503, "worker_unavailable", text, [(b"retry-after", b"5")])
        if model not in worker.present:
            text = f"worker '{pinned}', asked for by x-cluster-worker, doesn't have model '{model}'"
            raise Refusal(404, "model_not_on_worker", text)
        return (worker,)

    def admitted(self, candidates: Sequence[Worker], now: float) -> Sequence[Worker]:
        """Those of them that may get a request now; all, where none may: some answer is better than none."""
        if not self._watched:
            return candidates
        return [w for w in candidates if w.admits(now)] or candidates

    def sent(self, worker: Worker, now: float) -> None:
        """A request goes there."""
        if worker.breaker.opened is not None:
            worker.breaker = worker.breaker.sent(now)

    def unsent(self, worker: Worker) -> None:
        """It told nothing of the worker: its client left before."""
        if worker.breaker.opened is not None:
            worker.breaker = worker.breaker.unsent()

    def blamed(self, worker: Worker, reason: str, now: float) -> None:
        """A request failed there."""
        worker.breaker = worker.breaker.failed(now, reason)
        if worker.breaker.opened is not None:
            self._watched.add(worker.name)

    def proved(self, worker: Worker, now: float) -> None:
        """A request was answered there."""
        if worker.breaker is CLOSED:
            return
        tripped = worker.breaker.opened is not None
        worker.breaker = worker.breaker.answered(now)
        if tripped and worker.breaker.opened is None:
            self._take_in(worker, now)

    def settle(self, worker: Worker, now: float) -> None:
        """What passes with time: the gentle beginning of one that is back, and the doubt in a slow one."""
        if worker.back is not None and room(worker.slots, worker.back, now) is None:
            worker.back = None
            if worker.breaker.opened is None:
                self._watched.discard(worker.name)
        if worker.card_speeds:
            self._judge(worker, now)

    def _take_in(self, worker: Worker, now: float) -> None:
        worker.back = now
        self._watched.add(worker.name)

    def _judge(self, worker: Worker, now: float) -> None:
        """Whether what was placed on its cards is there."""
        flaws = {}
        for model in worker.on_cards:
            loaded, speed = worker.loaded_model(model), worker.card_speeds.get(model)
            flaw = fallen(loaded.size, loaded.size_vram) if loaded is not None else ""
            flaw = flaw or (speed.reason(now) if speed is not None else "")
            if flaw:
                flaws[model] = flaw
        if flaws != worker.flaws:
            worker.flaws = flaws
            self._index()

    def measured(self, worker: Worker, model: str, usage: Usage) -> None:
        """After an answer of the worker: it has the model in memory, and this was its speed, where one can tell."""
        if model not in worker.loaded:  # the checks will see it a moment later
            worker.loaded |= {model}
        worker.used[model] = time.time()
        speed = usage.tokens_per_second
        if speed is not None and usage.tokens >= TIMED:
            worker.speeds.add(model, speed)
            if model in worker.on_cards:
                now = time.monotonic()
                worker.card_speeds.setdefault(model, Speed()).add(speed, now)
                self._judge(worker, now)

    def active(self) -> list[Worker]:
        return [w for w in self.workers.values() if w.state is State.ACTIVE]

    def known(self, model: str) -> bool:
        """Placed by the configuration, or seen on a worker, be it down now."""
        return model in self._placed or any(model in w.present for w in self.workers.values())

    def must_know(self, model: str, asked: str) -> None:
        """Raises Refusal (404), worded as Ollama does, with the name as the client wrote it."""
        if model not in self._able and not self.known(model):
            raise Refusal(404, "model_not_found", f"model '{asked}' not found")

    def names(self) -> list[str]:
        """Every known model."""
        return sorted(self._placed.union(*(w.present for w in self.workers.values())))

    def answered(self, worker: Worker, engine: EngineState) -> None:
        now = self._clock()
        if worker.health.answered is False:  # back from the dead: what failed before says nothing of it now
            worker.breaker = CLOSED
            worker.speeds.forget()
            self._take_in(worker, now)
            worker.lacks = worker.loaded
            worker.flapping = worker.flapping.came(now)
            worker.kept_out = _kept_out(worker.flapping, now)
        elif worker.kept_out and not worker.flapping.left(now):
            worker.kept_out = ""
            self._take_in(worker, now)
        worker.health = worker.health.succeeded()
        worker.engine = engine
        worker.present = {m.name: m for m in engine.present}
        worker.loaded = frozenset(m.name for m in engine.loaded)
        if worker.on_cards:
            self._judge(worker, now)
        self._index()

    def failed(self, worker: Worker, reason: str, now: float, *, certain: bool) -> None:
        answered = worker.health.answered
        worker.health = worker.health.failed(reason, now, certain=certain)
        if not worker.health.answered:
            worker.kept_out = ""
            if answered and worker.cordon is None and not worker.leaving:  # nobody meant it to go
                worker.flapping = worker.flapping.went(now)
        self._index()

    def cordon(self, worker: Worker, cordon: Cordon | None) -> None:
        """None: it gets requests again, at once: whoever says so has seen to it."""
        if worker.cordon is not None and cordon is None:
            worker.flapping, worker.kept_out = Flapping(), ""
        worker.cordon = cordon
        self._index()

    def leaving(self, names: Iterable[str]) -> None:
        """Those whose Dask worker closes gracefully now."""
        gone = frozenset(names)
        changed = [w for w in self.workers.values() if w.leaving != (w.name in gone)]
        for worker in changed:
            worker.leaving = not worker.leaving
        if changed:
            self._index()

    def _index(self) -> None:
        steady = {model for w in self.active() if not w.kept_out for model in w.present}
        for worker in self.workers.values():
            worker.spared = worker.present.keys() <= steady
        self._find_able()
        self.changed()

    def _find_able(self) -> None:
        able: dict[str, list[Worker]] = {}
        for worker in self.active():
            for model in worker.present:
                able.setdefault(model, []).append(worker)
        self._able = {model: _best(model, workers) for model, workers in able.items()}


def _best(model: str, workers: list[Worker]) -> tuple[Worker, ...]:
    """Who comes and goes, or has fallen back to the CPU, is asked where nobody else can be: some answer is better than
    none."""
    steady = [w for w in workers if not w.kept_out] or workers
    return tuple([w for w in steady if model not in w.flaws] or steady)


def _kept_out(flapping: Flapping, now: float) -> str:
    """In words, with the time of day; empty where it isn't kept out."""
    left = flapping.left(now)
    if not left:
        return ""
    until = datetime.fromtimestamp(time.time() + left, UTC).strftime("%H:%M:%SZ")
    return f"answers again, but went down {flapping.times} times in a row; kept out for {left:.0f} s, until {until}"
