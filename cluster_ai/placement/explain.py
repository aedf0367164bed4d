"""Why a model is on these workers and not on others, in words. Pure.

It compares what is now, which may differ from what was when the model was placed: then what holds a model in its place
is that a move would win too little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster_ai.placement.repair import LOAD
from cluster_ai.placement.room import Processor, Seat, Wanted, affinity
from cluster_ai.placement.speed import Pace, compare
from cluster_ai.sizes import format_size

_TOLD = 3  # holders that another worker is compared with
_ON: Mapping[Processor, str] = {"gpu": "on GPU", "cpu": "in RAM"}


@dataclass(frozen=True, slots=True)
class Reason:
    """One worker. holds: a replica is there, or belongs there. free: bytes beside all other models; None: unknown."""

    worker: str
    holds: bool
    processor: Processor | None  # where it runs, or would; None: it wouldn't fit
    free_gpu: int | None
    free_ram: int | None
    speed: float | None  # tokens per second of one answer, as measured
    why: str


def explain(
    model: Wanted, seats: Sequence[Seat], placed: frozenset[str], stand_ins: Mapping[str, str]
) -> tuple[Reason, ...]:
    """placed: names of its workers. stand_ins: worker -> the one that it stands in for. Holders come first."""
    seats = sorted(seats, key=lambda seat: seat.worker)
    holders = [seat for seat in seats if seat.worker in placed or seat.worker in stand_ins]
    pace = compare(model.name, {seat.worker: seat.stated for seat in seats})
    found = [_reason(model, it, _held(model, it, stand_ins.get(it.worker), placed), holds=True) for it in holders]
    found += [
        _reason(model, it, _elsewhere(model, it, holders, pace), holds=False) for it in seats if it not in holders
    ]
    return tuple(found)


def _reason(model: Wanted, seat: Seat, why: str, *, holds: bool) -> Reason:
    held = seat.held.get(model.name)
    return Reason(
        worker=seat.worker,
        holds=holds,
        processor=held.processor if held else seat.fits(model),
        free_gpu=seat.free("gpu", model.name),
        free_ram=seat.free("cpu", model.name),
        speed=seat.speeds.get(model.name),
        why=why,
    )


def _held(model: Wanted, seat: Seat, instead_of: str | None, placed: frozenset[str]) -> str:
    held = seat.held.get(model.name)
    where = _ON[held.processor] if held else "there"
    taken = f", {format_size(held.memory)}" if held else ""
    if seat.worker not in placed:
        added = "added by the autoscaler" if instead_of == LOAD else f"stands in for {instead_of}"
        return f"{added}: {where}{taken}"
    if model.replicas is None:
        many = "every worker where it fits has one replica"
    else:
        many = f"one of its {model.replicas} replicas, each on another worker" if model.replicas > 1 else "its replica"
    now = f"; now: {seat.closed}" if seat.closed else ""
    return f"placed {where}{taken}: {many}{now}"


def _elsewhere(model: Wanted, seat: Seat, holders: Sequence[Seat], pace: Pace) -> str:
    if why := seat.why_not(model):
        return why
    if not holders:
        return "would fit, but cluster.yaml doesn't place it"
    before = [_before(model, it, seat, pace) for it in holders[:_TOLD]]
    more = [f"{len(holders) - _TOLD} more have it"] if len(holders) > _TOLD else []
    return f"would fit, but {_enough(model, len(holders))}, and {'; '.join(before + more)}"


def _enough(model: Wanted, holders: int) -> str:
    count = holders if model.replicas is None else model.replicas
    return "one replica is wanted" if count == 1 else f"{count} replicas are wanted"


def _before(model: Wanted, holder: Seat, other: Seat, pace: Pace) -> str:
    """Why the one has it and not the other."""
    held, there = holder.held.get(model.name), other.fits(model)
    name = holder.worker
    if held and held.processor == "gpu" and there == "cpu":
        return f"{name} has it on GPU, where here it would run in RAM"
    mine, theirs = len(other.held.keys() - {model.name}), len(holder.held.keys() - {model.name})
    here, its = _times(pace, other, there), _times(pace, holder, held.processor if held else None)
    if its > here and (theirs + 1) / its <= (mine + 1) / here:
        told = f"{pace.by}: {pace.speeds[name]:.3g} tokens/s against {_speed(pace, other)}"
        return f"by cluster.yaml {name} is quicker ({told}), and counts as {its} workers, this one as {here}"
    quick, slow = holder.speeds.get(model.name), other.speeds.get(model.name)
    if quick and slow and quick > slow:
        return f"{name} was measured to be quicker with it: {quick:.3g} tokens/s against {slow:.3g}"
    if mine > theirs:
        return f"{name} has fewer other models ({theirs} against {mine})"
    if mine == theirs and affinity(model.name, name) > affinity(model.name, other.worker):
        return f"{name} comes first in the model's own order among equals"
    return f"it stays on {name}, for models aren't moved without need"


def _times(pace: Pace, seat: Seat, processor: Processor | None) -> int:
    cards = seat.budget is not None and seat.budget.gpu > 0
    return pace.times(seat.worker, processor or "gpu", cards=cards)


def _speed(pace: Pace, seat: Seat) -> str:
    speed = pace.speeds.get(seat.worker)
    return "none measured" if speed is None else f"{speed:.3g}"
