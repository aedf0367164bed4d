"""What is not there, and when, while a plan is carried out: wave by wave, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from cluster_ai import layout
from cluster_ai.rollout.plan import Plan
from cluster_ai.rollout.waves import Wave

# Of what restarts on a host that serves, what people notice.
NOTICED = {
    layout.SCHEDULER: "the scheduler restarts: tasks that run have a minute to end, the others go on afterwards",
    layout.TASKS: "the task manager restarts: tasks that run have a minute to end, new ones wait some seconds",
    layout.GATEWAY: "the gateway is replaced: new requests go to its successor, those that run end where they are",
    layout.GATEWAY_SOCKET: "the gateway's socket restarts: connections are refused for a moment",
    layout.PROMETHEUS: "Prometheus restarts: some seconds of metrics are missing",
    layout.ALERTMANAGER: "Alertmanager restarts: who is told of alerts is told some seconds later",
    layout.DASHBOARD: "the dashboard restarts: its page is away for some seconds",
    layout.OPEN_WEBUI: "Open WebUI restarts: its page is away for half a minute",
}


def outages(plan: Plan) -> tuple[tuple[str, ...], ...]:
    """For each wave what is unavailable during it, a sentence each; empty: nothing that anybody notices."""
    return tuple(tuple(_of(plan, index, wave)) for index, wave in enumerate(plan.waves))


def _of(plan: Plan, index: int, wave: Wave) -> Iterator[str]:
    if wave.kind == "first":  # what begins there serves nobody yet
        return
    hosts = [host for host in plan.hosts if host.host in wave.hosts and host.release_from is not None]
    touched = {change.unit for host in hosts for change in host.units if change.action in ("restart", "stop")}
    yield from (sentence for unit, sentence in NOTICED.items() if unit in touched)
    if models := plan.unavailable.get(index, ()):
        them = f"model {models[0]} is" if len(models) == 1 else f"models {', '.join(models)} are"
        yield f"{them} unavailable for about the time of a switch: no other worker has a replica"
    if any("worker" in host.roles for host in hosts):
        yield "who is switched takes no new requests meanwhile, and finishes those that run"
