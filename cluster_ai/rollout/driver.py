"""Reboots for new NVIDIA drivers: a host at a time, and no request goes to its worker meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Literal

from cluster_ai.errors import ClusterAIError, RolloutError
from cluster_ai.rollout.traffic import Traffic

__all__ = ["DRAIN", "PLAYBOOK", "Traffic", "order", "reboot"]

PLAYBOOK = "gpu_driver.yml"
DRAIN = 300.0  # seconds that what is under way is given to end

Say = Callable[[str, Literal["start", "ok", "changed"], str], None]  # step, status, detail


def order(names: Iterable[str], head: str) -> list[str]:
    """The head last: its reboot takes the gateway along, which the others are drained by."""
    return sorted(names, key=lambda name: (name == head, name))


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
        ours = traffic.drain("a new driver, with a reboot")
        left = traffic.under_way(DRAIN)
        say("drain", "changed" if ours else "ok", f"cut off: {left} that were under way" if left else "")
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
