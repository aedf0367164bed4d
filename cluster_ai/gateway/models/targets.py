"""Which workers a change of a model goes to. Pure: reads the fleet only.

A model that cluster.yaml names belongs on the workers that it is placed on. Any other goes where its base is, or
to every worker; it is taken from all that have it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.fleet import Fleet, State, Worker

_RETRY_AFTER = (b"retry-after", b"5")


@dataclass(frozen=True, slots=True)
class Targets:
    """left_out: workers that are meant too, but can't be reached now, with the reason."""

    workers: tuple[Worker, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> str:
        return ",".join(worker.name for worker in self.workers)


def for_new(fleet: Fleet, model: str, pinned: str, base: str = "") -> Targets:
    """Who gets a model; names are canonical. pinned: workers' names with commas between, where the client chose.

    Raises Refusal: 404 for a worker that isn't there, 503 when nobody can get it now.
    """
    workers = list(fleet.workers.values())
    meant = (
        _chosen(fleet, pinned)
        or [w for w in workers if model in w.placed]
        or [w for w in workers if base and base in w.present]
        or workers
    )
    return _split(meant, (State.ACTIVE,))


def for_present(fleet: Fleet, model: str, pinned: str) -> Targets:
    """Who has a model, workers that are being drained too. Raises Refusal as for_new; empty where nobody has it."""
    chosen = _chosen(fleet, pinned)
    holders = [w for w in chosen or fleet.workers.values() if model in w.present]
    return _split(holders, (State.ACTIVE, State.DRAINING)) if holders else Targets(())


def _chosen(fleet: Fleet, pinned: str) -> list[Worker]:
    names = [name.strip() for name in pinned.split(",") if name.strip()]
    unknown = [name for name in names if name not in fleet.workers]
    if unknown:
        text = f"there is no worker '{unknown[0]}' (asked for by x-cluster-worker)"
        raise Refusal(404, "worker_not_found", text)
    return [fleet.workers[name] for name in dict.fromkeys(names)]


def _split(meant: Iterable[Worker], states: tuple[State, ...]) -> Targets:
    meant = list(meant)
    left_out = tuple((w.name, w.reason or w.state.value) for w in meant if w.state not in states)
    workers = tuple(w for w in meant if w.state in states)
    if not workers:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out) or "the cluster has none"
        raise Refusal(503, "no_worker", f"no worker can be reached for this ({why})", [_RETRY_AFTER])
    return Targets(workers, left_out)
