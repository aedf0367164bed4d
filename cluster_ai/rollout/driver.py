"""Reboots for new NVIDIA drivers: a host at a time, and no request goes to its worker meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from cluster_ai.errors import ClusterAIError, RolloutError, UnavailableError

PLAYBOOK = "gpu_driver.yml"
DRAIN = 300.0  # seconds that answers under way are given to end
POLL = 1.0  # seconds

Ask = Callable[[str, str], tuple[int, Any]]  # rollout.gate.Gateway.ask: method and path -> status and answer
Say = Callable[[str, Literal["start", "ok", "changed"], str], None]  # step, status, detail


def order(names: Iterable[str], head: str) -> list[str]:
    """The head last: its reboot takes the gateway along, which the others are drained by."""
    return sorted(names, key=lambda name: (name == head, name))


@dataclass(frozen=True, slots=True)
class Seen:
    """A worker, as the gateway knows it."""

    state: str
    in_flight: int

    @classmethod
    def read(cls, status: Any, worker: str) -> Seen | None:
        """Of an answer of /cluster/status. None: the gateway doesn't know this worker, so it sends it nothing."""
        for entry in status["workers"]:
            if entry["name"] == worker:
                return cls(entry["state"], entry["in_flight"])
        return None


@dataclass(frozen=True)
class Traffic:
    """The requests that a worker gets from the gateway."""

    ask: Ask
    worker: str
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def drain(self) -> bool:
        """Whether it is ours to resume: not where an operator has drained it before, or where there is no gateway."""
        seen = self._seen()
        if seen is None or seen.state != "active":
            return False
        self._post("drain")
        return True

    def under_way(self, limit: float) -> int:
        """How many requests it still has, once they have ended or the time limit has passed."""
        end = self.clock() + limit
        while (seen := self._seen()) and seen.in_flight and self.clock() < end:
            self.sleep(POLL)
        return seen.in_flight if seen else 0

    def resume(self, limit: float) -> bool:
        """Whether it serves again within the time limit. The gateway may have been rebooted itself."""
        end = self.clock() + limit
        while True:
            with contextlib.suppress(UnavailableError):
                status, answer = self._post("resume")
                if status == 200 and answer["state"] == "active":
                    return True
            if self.clock() >= end:
                return False
            self.sleep(POLL)

    def _post(self, what: str) -> tuple[int, Any]:
        return self.ask("POST", f"/api/v1/cluster/workers/{quote(self.worker)}/{what}")

    def _seen(self) -> Seen | None:
        try:
            status, answer = self.ask("GET", "/api/v1/cluster/status")
        except UnavailableError:
            return None
        if status != 200:
            raise RolloutError(
                f"can't be drained for its reboot: the gateway answers {status}",
                where=self.worker,
                remedy=f"reboot it at a time of your choice, with playbooks/{PLAYBOOK}, then again",
            )
        return Seen.read(answer, self.worker)


def reboot(
    traffic: Traffic, run: Callable[[], ClusterAIError | None], say: Say, *, back: float
) -> ClusterAIError | None:
    """Drain, run what reboots, and give the worker requests again, whatever came of it.

    back: seconds until a worker that served must do so again. Returns what went wrong.
    """
    ours, failed = False, None
    done = False
    try:
        say("drain", "start", "")
        ours = traffic.drain()
        left = traffic.under_way(DRAIN)
        say("drain", "changed" if ours else "ok", f"{left} requests are cut off" if left else "")
        failed = run()
        done = failed is None
    except ClusterAIError as error:
        failed = error
    finally:
        if ours and not done:
            with contextlib.suppress(ClusterAIError):
                traffic.resume(0)
    return _resumed(traffic, say, back) if ours and done else failed


def _resumed(traffic: Traffic, say: Say, back: float) -> ClusterAIError | None:
    say("resume", "start", "")
    try:
        serves = traffic.resume(back)
    except ClusterAIError as error:
        return error
    if not serves:
        return RolloutError(
            f"doesn't serve again {back:.0f} seconds after its reboot",
            where=traffic.worker,
            remedy="on it: systemctl status 'cluster-ai*'; and: cluster-ai status",
        )
    say("resume", "changed", "")
    return None
