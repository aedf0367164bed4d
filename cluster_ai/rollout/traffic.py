"""What a worker is given to do, seen from the controller: stopped before its switch or reboot, and begun again after.

Everything is asked of the gateway, and every question has a time limit. A gateway that isn't there serves nobody, so
there is nothing to stop.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from cluster_ai.errors import HostError, RolloutError, UnavailableError

STATUS = "/api/v1/cluster/status"
OWN = "rollout"  # how the reason of a drain begins that a rollout may end
LONGEST = 200  # characters of a reason that the gateway takes
TIMEOUT = 10.0  # seconds for one question
POLL = 0.3  # seconds
SILENT = 15  # questions in a row without an answer, after which there is no gateway

_AWAY = (UnavailableError, HostError)


class Ask(Protocol):
    """rollout.gate.Gateway.ask"""

    def __call__(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout: float = TIMEOUT
    ) -> tuple[int, Any]: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """A worker, as the gateway knows it. tasks and results are None where the gateway doesn't know yet."""

    state: str
    reason: str
    requests: int
    cordon: str | None = None  # its reason; None: nobody has cordoned it
    tasks: int | None = 0  # of Dask
    results: int | None = 0  # that only it holds
    untold: str = ""  # why Dask doesn't know of the cordon

    @property
    def left(self) -> int:
        """What is still under way; what isn't known counts as one."""
        tasks, results = (1 if it is None else it for it in (self.tasks, self.results))
        return self.requests + tasks + results

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Seen:
        """Of a worker in the gateway's answers; those of older releases tell less."""
        cordon = entry.get("cordon") or {}
        untold = cordon.get("untold") or ""
        tasks, results = (0 if untold else cordon.get(it, 0) for it in ("tasks", "results"))
        state, reason = entry["state"], entry.get("reason") or ""
        return cls(state, reason, entry["in_flight"], cordon.get("reason"), tasks, results, untold)


def look(ask: Ask) -> dict[str, Seen]:
    """Every worker that the gateway knows. Raises UnavailableError, HostError; RolloutError where it refuses."""
    status, answer = ask("GET", STATUS, timeout=TIMEOUT)
    if status != 200 or not isinstance(answer, dict):
        raise RolloutError(
            f"the gateway answers {status}, so nothing can be drained",
            where="gateway",
            remedy="cluster-ai status; and cluster-ai apply, if its token is another one",
        )
    return {entry["name"]: Seen.of(entry) for entry in answer["workers"]}


def post(ask: Ask, worker: str, what: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """what: cordon, drain or resume."""
    return ask("POST", f"/api/v1/cluster/workers/{quote(worker, safe='')}/{what}", body, timeout=TIMEOUT)


def lift(ask: Ask) -> None:
    """Give requests again to workers that a rollout drained which nobody leads; what an operator drained stays so."""
    with contextlib.suppress(*_AWAY, RolloutError):
        for name, seen in look(ask).items():
            if _ours(seen.cordon):
                post(ask, name, "resume")


@dataclass(frozen=True)
class Traffic:
    """The requests and Dask tasks of one worker."""

    ask: Ask
    worker: str
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def drain(self, why: str) -> bool:
        """Whether it is ours to resume. Not where it doesn't serve anyhow, or where an operator has drained it before.

        A drain that a rollout left behind, which was cut off, is taken over.
        """
        try:
            seen = look(self.ask).get(self.worker)
            if seen is None or not (seen.state == "active" or _ours(seen.cordon)):
                return False
            reason = why if _ours(why) else f"{OWN}: {why}"
            status, answer = post(self.ask, self.worker, "drain", {"reason": reason[:LONGEST]})
        except _AWAY:
            return False
        if status != 200:
            raise RolloutError(f"can't be drained: the gateway answers {status}: {answer}", where=self.worker)
        return True

    def under_way(self, limit: float) -> int:
        """How many requests, Dask tasks, and results that only it holds, are left; 0, or what there is at the limit."""
        end, left, silent = self.clock() + limit, 0, 0
        while True:
            try:
                seen = look(self.ask).get(self.worker)
                left, silent = seen.left if seen else 0, 0
            except _AWAY:
                left, silent = left or 1, silent + 1
            if not left or silent == SILENT:
                return 0
            if self.clock() >= end:
                return 0 if silent else left
            self.sleep(POLL)

    def resume(self, limit: float) -> bool:
        """Whether it serves again within the time limit; the gateway may have been restarted itself.

        Where an operator has drained it meanwhile it stays so, and nothing is waited for.
        """
        end = self.clock() + limit
        while True:
            with contextlib.suppress(*_AWAY):
                seen = look(self.ask).get(self.worker)
                if seen and seen.cordon is not None and not _ours(seen.cordon):
                    return True
                status, answer = post(self.ask, self.worker, "resume")
                if status == 200 and answer["state"] == "active":
                    return True
            if self.clock() >= end:
                return False
            self.sleep(POLL)


def _ours(cordon: str | None) -> bool:
    return cordon is not None and cordon.startswith(OWN)
