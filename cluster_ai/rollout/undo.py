"""Back to releases that hosts ran before: what a rollout brought is undone, or the cluster is rolled back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cluster_ai.errors import ClusterAIError, HostError, RolloutError, UsageError
from cluster_ai.rollout.executor import OnEvent, OnStage, Report
from cluster_ai.rollout.journal import Change, Intent, Rollout
from cluster_ai.rollout.observe import Observed
from cluster_ai.rollout.passage import Passage
from cluster_ai.rollout.records import Record
from cluster_ai.rollout.rolling import roll
from cluster_ai.rollout.scope import Scope
from cluster_ai.rollout.waves import Wave

Seen = Mapping[str, Observed | HostError]


def lasting(rollouts: Iterable[Rollout]) -> list[Rollout]:
    """Those that brought some host another release, and weren't taken back."""
    return [
        it
        for it in rollouts
        if it.state not in ("returned", "undone")
        and any(change.before != change.wanted for change in it.intent.hosts.values())
    ]


def of(rollouts: Iterable[Rollout], seen: Seen) -> dict[str, Change]:
    """What taking rollouts back is: each host to what it ran before the oldest of them that changed it.

    A host that had no release then, or that can't be asked, is left alone. One that is in the midst of a switch, since
    its controller died, is taken back, too: it is awaited. rollouts: the newest first.
    """
    befores: dict[str, str | None] = {}
    for rollout in rollouts:
        befores |= {host: change.before for host, change in rollout.intent.hosts.items()}
    return {
        host: Change(it.switching or it.current, before)
        for host, before in befores.items()
        if before and isinstance(it := seen.get(host), Observed) and (it.switching or it.current) not in (None, before)
    }


def still_there(rollout: Rollout, changes: Mapping[str, Change]) -> dict[str, Change]:
    """Those of the changes whose hosts run what the rollout brought, and nothing that came later."""
    wanted = {host: change.wanted for host, change in rollout.intent.hosts.items()}
    return {host: change for host, change in changes.items() if change.before == wanted.get(host)}


def since(rollouts: Sequence[Rollout], to: str) -> list[Rollout]:
    """The rollouts that came after one: it is named by its id or a release that it brought, or how these begin.

    rollouts: the newest first. Raises UsageError where none is meant.
    """
    for at, rollout in enumerate(rollouts):
        digests = [change.wanted for change in rollout.intent.hosts.values()]
        if rollout.id.startswith(to) or any(digest.startswith(to) for digest in digests):
            return list(rollouts[:at])
    raise UsageError(f"no rollout, and no release of one, begins with {to}", remedy="cluster-ai rollouts list")


def possible(changes: Mapping[str, Change], seen: Seen) -> list[ClusterAIError]:
    """Why it can't be done: hosts that don't have the release any more, or can't be asked."""
    errors: list[ClusterAIError] = [it for it in seen.values() if isinstance(it, HostError)]
    for host, change in changes.items():
        it = seen.get(host)
        if isinstance(it, Observed) and change.wanted not in it.releases:
            what = f"doesn't have release {change.wanted[:12]} any more"
            remedy = "change cluster.yaml back (git revert), then cluster-ai apply"
            errors.append(RolloutError(what, where=host, remedy=remedy))
    return errors


def halves(names: Sequence[str], head: str) -> tuple[Wave, ...]:
    """A way back is short, and still serves: one half of the workers with the head, then the other."""
    workers = [name for name in names if name != head]
    first, second = workers[: (len(workers) + 1) // 2], workers[(len(workers) + 1) // 2 :]
    waves = (Wave((*(name for name in names if name == head), *first), "green"), Wave(tuple(second), "blue"))
    return tuple(wave for wave in waves if wave.hosts)


def intent(cluster: str, config: str, changes: Mapping[str, Change], waves: Sequence[Wave]) -> Intent:
    return Intent(cluster, "rollback", config, changes, tuple(wave.as_dict() for wave in waves))


def switch_back(
    scope: Scope,
    record: Record,
    changes: Mapping[str, Change],
    waves: Sequence[Wave],
    on_stage: OnStage,
    on_event: OnEvent,
) -> Report:
    """Carry it out. A host that fails ends it, and is told; what is back by then stays so."""
    report = Report(rollout=record.id)
    passage = Passage(scope, record, on_stage, on_event)

    def one(wave: Wave) -> Mapping[str, ClusterAIError | None]:
        record.doing(f"back: {', '.join(wave.hosts)}")
        return passage.to("switch", {host: changes[host].wanted for host in wave.hosts})

    rolled = roll(waves, one, lambda wave, last: None)
    report.returned, report.failed, report.untouched = rolled.done, rolled.failed, rolled.untouched
    return report
