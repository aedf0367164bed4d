"""What is left to do of a rollout that was cut off or waits. Pure."""

from __future__ import annotations

from cluster_ai.errors import RolloutError, UsageError
from cluster_ai.rollout.journal import OPEN, STATES, Rollout
from cluster_ai.rollout.survey import Survey
from cluster_ai.rollout.waves import Wave


def left(rollout: Rollout, found: Survey) -> tuple[Wave, ...]:
    """Its waves, without the hosts that run already what they shall.

    Raises UsageError where it can't be resumed, RolloutError where the same releases would not be made any more.
    """
    if rollout.state not in OPEN:
        raise UsageError(
            f"can't be resumed: {rollout.state}, {STATES[rollout.state]}",
            where=f"rollout {rollout.id}",
            remedy="cluster-ai apply makes a new plan",
        )
    other = [
        host
        for host, change in rollout.intent.hosts.items()
        if host in found.releases and found.releases[host].digest != change.wanted
    ]
    if other:
        raise RolloutError(
            f"would bring other releases now to {', '.join(other)}: cluster.yaml or this program has changed since",
            where=f"rollout {rollout.id}",
            remedy="cluster-ai apply makes a new plan; cluster-ai rollouts undo takes this one back",
        )
    pending = {it.host for it in found.plan.hosts if it.release_changes}
    waves = (
        Wave(tuple(host for host in it["hosts"] if host in pending), it["kind"], it["pause"], it["bake"])
        for it in rollout.intent.waves
    )
    return tuple(wave for wave in waves if wave.hosts)
