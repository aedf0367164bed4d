"""What is to be done so that each model is served as cluster.yaml says, though workers come and go. Pure.

Nothing that is healthy is moved. A worker that is lost gets a stand-in for each of its models where they fit, until it
is back and has them in memory again. The placement itself is never changed: that is `apply`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cluster_ai.placement.room import Held, Processor, Seat, Wanted, choices

SETTLED = 60.0  # seconds that a stand-in stays at least, so that a worker which comes and goes moves nothing to and fro

LOAD = "*"  # instead of whom a replica is that was added for there was much to do: no worker bears that name

Do = Literal["load", "fetch", "adopt", "release", "forget", "unload"]


@dataclass(frozen=True, slots=True, order=True)
class StandIn:
    """fetched: the worker got the model for this, and loses it afterwards. since: seconds since 1970."""

    model: str
    worker: str
    instead_of: str
    processor: Processor
    fetched: bool
    since: float


@dataclass(frozen=True, slots=True)
class Step:
    """What one worker is to do with one model.

    load: into memory; fetch: onto the disk before; adopt: what was added for LOAD stands in from now on; release: out
    of memory, and off the disk where it was fetched; forget: it has become the worker's own; unload: out of memory.
    instead_of: who is lost, or LOAD; empty: the model belongs to this worker.
    """

    do: Do
    model: str
    worker: str
    processor: Processor
    reason: str
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Short:
    """A replica that nobody can take over now."""

    model: str
    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is now. placed: model -> workers with the processor. lost: worker -> why. loaded: model -> workers.

    failed: (model, worker) -> why it isn't tried there again yet.
    """

    seats: Sequence[Seat]
    placed: Mapping[str, Mapping[str, Processor]]
    lost: Mapping[str, str]
    loaded: Mapping[str, frozenset[str]]
    failed: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repairs:
    steps: tuple[Step, ...] = ()
    short: tuple[Short, ...] = ()


@dataclass(slots=True)
class _Work:
    fleet: Fleet
    seats: dict[str, Seat]
    steps: list[Step] = field(default_factory=list)
    short: list[Short] = field(default_factory=list)


def repair(models: Sequence[Wanted], fleet: Fleet, stand_ins: Iterable[StandIn], now: float) -> Repairs:
    """models: all that cluster.yaml names. The largest are provided for first, as placement does it."""
    work, there = _Work(fleet, {seat.worker: seat for seat in fleet.seats}), sorted(stand_ins)
    for model in sorted(models, key=lambda m: (-m.need.memory, m.name)):
        _own(work, model)
        _lost(work, model, [it for it in there if it.model == model.name])
    known = {model.name for model in models}
    work.steps.extend(_over(work, there, known, now))
    return Repairs(tuple(work.steps), tuple(work.short))


def _own(work: _Work, model: Wanted) -> None:
    """What a healthy worker should have, and hasn't."""
    for worker, processor in sorted(work.fleet.placed.get(model.name, {}).items()):
        seat = work.seats.get(worker)
        if seat is not None and not seat.closed and worker not in work.fleet.lost and model.name not in seat.present:
            work.steps.append(Step("fetch", model.name, worker, processor, "placed there, but not on its disk"))


def _lost(work: _Work, model: Wanted, stand_ins: Sequence[StandIn]) -> None:
    placed, lost = work.fleet.placed.get(model.name, {}), work.fleet.lost
    serving = [it for it in stand_ins if it.worker not in lost]
    holders = {*placed, *(it.worker for it in serving)}
    added = [it for it in serving if it.instead_of == LOAD and it.worker not in placed]
    for worker in sorted(placed.keys() & lost.keys() - {it.instead_of for it in serving}):
        if added:
            it = added.pop()
            reason = f"{worker} is lost ({lost[worker]}); it was added here before"
            work.steps.append(Step("adopt", model.name, it.worker, it.processor, reason, worker))
            continue
        others = [seat for name, seat in work.seats.items() if name not in holders | lost.keys()]
        found = choices(model, [seat for seat in others if (model.name, seat.worker) not in work.fleet.failed])
        if not found:
            if model.replicas is not None or not holders - lost.keys():
                work.short.append(Short(model.name, worker, _nowhere(work, model, others)))
            continue
        seat, processor = found[0]
        holders.add(seat.worker)
        work.seats[seat.worker] = seat.with_model(model.name, Held(processor, model.need.memory))
        do: Do = "load" if model.name in seat.present else "fetch"
        where = "on GPU" if processor == "gpu" else "in RAM"
        reason = f"{worker} is lost ({lost[worker]}); here it fits {where}: {seat.room()} are free"
        work.steps.append(Step(do, model.name, seat.worker, processor, reason, worker))


def _nowhere(work: _Work, model: Wanted, others: Sequence[Seat]) -> str:
    """Of each other worker, why it can't."""
    if not others:
        return "no other worker is there"
    each = {it.worker: work.fleet.failed.get((model.name, it.worker)) or it.why_not(model) for it in others}
    return "; ".join(f"{worker}: {why}" for worker, why in sorted(each.items()))


def _over(work: _Work, stand_ins: Sequence[StandIn], known: set[str], now: float) -> Iterator[Step]:
    """Stand-ins that aren't needed any more."""
    first: dict[tuple[str, str], str] = {}
    for it in stand_ins:
        if it.worker in work.fleet.lost or it.worker not in work.seats:
            continue  # it can't be asked now
        placed = work.fleet.placed.get(it.model, {})
        step = Step("release", it.model, it.worker, it.processor, "", it.instead_of)
        if it.worker in placed:
            yield _with(step, "forget", "it is placed there by now")
        elif work.seats[it.worker].closed:
            continue  # nor now, as where it is cordoned
        elif it.model not in known:
            yield _with(step, "release", "cluster.yaml doesn't name it any more")
        elif it.instead_of == LOAD:
            continue  # the autoscaler's
        elif it.instead_of not in placed:
            yield _with(step, "release", f"it isn't placed on {it.instead_of} any more")
        elif it.instead_of in work.fleet.lost:
            if first.setdefault((it.model, it.instead_of), it.worker) != it.worker:
                yield _with(step, "release", f"{first[it.model, it.instead_of]} stands in for {it.instead_of} too")
        else:
            yield from _back(work, it, step, now)


def _back(work: _Work, it: StandIn, step: Step, now: float) -> Iterator[Step]:
    """Whom it stands in for is there again: it has the model in memory before the stand-in gives it up."""
    seat = work.seats.get(it.instead_of)
    if seat is None or seat.closed or it.model not in seat.present or now - it.since < SETTLED:
        return
    if it.instead_of in work.fleet.loaded.get(it.model, frozenset()):
        yield _with(step, "release", f"{it.instead_of} is back, and has it in memory")
    else:
        processor = work.fleet.placed[it.model][it.instead_of]
        yield Step("load", it.model, it.instead_of, processor, "the worker is back")


def _with(step: Step, do: Do, reason: str) -> Step:
    return Step(do, step.model, step.worker, step.processor, reason, step.instead_of)
