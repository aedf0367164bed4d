"""What a person should look at, out of what the dashboard knows: pure, so that each rule is tested by itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dashboard import units
from dashboard.prometheus import Firing
from dashboard.queries import Overview
from dashboard.served import Served, WorkerState

STALE = 60.0  # seconds without a scrape before the data is called old
FULL = 0.9  # share of memory or disk in use


@dataclass(frozen=True, slots=True)
class Notice:
    level: Literal["error", "warning"]
    what: str
    remedy: str


def notices(overview: Overview, served: Served | None, *, now: float | None = None) -> list[Notice]:
    """Errors first; within a level, what stops work comes before what slows it. served: None where it isn't known."""
    found = [
        *_workers(overview, served),
        *_models(overview, served),
        *_answers(overview),
        *_scheduler(served),
        *_hosts(overview),
        *_rollout(overview),
        *_drift(overview, time.time() if now is None else now),
        *_alerts(overview),
        *_monitoring(overview, now),
    ]
    return sorted(found, key=lambda n: n.level != "error")


def well(overview: Overview, served: Served) -> str:
    """What was looked at and found in order, for when there is no notice."""
    found = [
        units.answering(overview.workers_up, "worker") + _asleep(served),
        f"{units.counted(len(served.models), 'model')} ready" if served.models else "no model yet",
        f"{units.share(overview.failed / overview.finished if overview.finished else 0)} of requests failed",
    ]
    checked = [h for h in overview.hosts if h.checked is not None]
    if checked:
        found.append(f"no drift on {units.counted(len(checked), 'host')}")
    if overview.rollout in ("done", "undone"):
        found.append(f"the last rollout is {overview.rollout}")
    return f"**All is well.** {', '.join(found).capitalize()}."


def _asleep(served: Served) -> str:
    asleep = sum(worker.state == "asleep" for worker in served.workers)
    return f" and {units.count(asleep)} on standby sleep{'s' if asleep == 1 else ''}" if asleep else ""


def _workers(o: Overview, served: Served | None) -> list[Notice]:
    found = []
    reasons = {w.name: w.reason for w in served.workers} if served else {}
    down = [f"**{name}** ({why})" if (why := reasons.get(name)) else f"**{name}**" for name in o.workers_down]
    if down:
        what = _names("Worker", down, "does not answer", "do not answer")
        if not o.workers_up:
            what = f"No worker answers: {_list(down)}"
        remedy = "See `journalctl -u cluster-ai-engine -u cluster-ai-front` there."
        found.append(Notice("error", f"{what}.", remedy))
    draining = _bold(w.name for w in served.workers if w.state == "draining" and not _sinks(w)) if served else []
    if draining:
        what = f"{_names('Worker', draining, 'gets', 'get')} no new requests: drained."
        found.append(Notice("warning", what, "A rollout does this for a while; if an operator did, they resume it."))
    return found


def _sinks(worker: WorkerState) -> bool:
    """It is drained by the gateway, to sleep: nobody has to do anything."""
    return worker.cordon is not None and worker.cordon.reason == "standby"


def _models(o: Overview, served: Served | None) -> list[Notice]:
    gone = _bold(m.name for m in served.models if m.replicas and not m.present) if served else []
    if not gone or not o.workers_up:  # without a worker there is no model: said once is enough
        return []
    what = f"{_names('Model', gone, 'is on no worker that answers', 'are on no worker that answers')}."
    return [Notice("error", what, "`cluster-ai verify` finds what is missing.")]


def _scheduler(served: Served | None) -> list[Notice]:
    if served is None or served.scheduler is None:
        return []
    what = f"Dask's scheduler is away: {served.scheduler}."
    return [
        Notice("warning", what, "Prompts are answered all the same; tasks, and workers' CPU and memory, are not seen.")
    ]


def _answers(o: Overview) -> list[Notice]:
    found = []
    if o.failed >= 0.5 and o.finished:
        ratio = o.failed / o.finished
        level: Literal["error", "warning"] = "error" if ratio > 0.05 else "warning"
        what = f"{units.share(ratio)} of the requests failed ({units.count(o.failed)} of {units.count(o.finished)})."
        found.append(Notice(level, what, "The gateway's log says which: `journalctl -u 'cluster-ai-gateway@*'`."))
    if o.failovers >= 0.5:
        what = f"{units.counted(round(o.failovers), 'request')} went to another worker: the first one failed."
        found.append(Notice("warning", what, "Nothing was lost, but a worker is unsteady: see Workers."))
    return found


def _hosts(o: Overview) -> list[Notice]:
    found = []
    memory = _bold(h.name for h in o.hosts if _share(h.memory_used, h.memory_total) > FULL)
    if memory:
        what = f"{_names('Host', memory, 'has', 'have')} less than {units.share(1 - FULL)} of memory left."
        found.append(Notice("warning", what, "Place fewer or smaller models there, or shorten `num_ctx`."))
    disk = _bold(h.name for h in o.hosts if 1 - _share(h.disk_free, h.disk_total, unknown=1) > FULL)
    if disk:
        what = f"{_names('Host', disk, 'has', 'have')} less than {units.share(1 - FULL)} of disk left."
        found.append(Notice("warning", what, "Remove old releases or models: see `rollout.keep_releases`."))
    return found


_ROLLOUTS: Mapping[str, tuple[Literal["error", "warning"], str, str]] = {
    "running": ("warning", "A rollout goes on.", "`cluster-ai rollouts show` tells how far it is."),
    "paused": (
        "warning",
        "A rollout waits for a person.",
        "`cluster-ai rollouts show` tells why; then `cluster-ai rollouts resume`, or `undo`.",
    ),
    "interrupted": (
        "error",
        "A rollout was interrupted: hosts may run different releases.",
        "`cluster-ai rollouts resume` goes on with it, `cluster-ai rollouts undo` takes it back.",
    ),
    "failed": (
        "error",
        "The last rollout failed, and could not put everything back.",
        "`cluster-ai rollouts show` tells what is left, `cluster-ai apply` tries again.",
    ),
    "returned": (
        "warning",
        "The last rollout failed; its hosts run again what they ran before.",
        "`cluster-ai rollouts show` tells why it failed.",
    ),
}


def _rollout(o: Overview) -> list[Notice]:
    told = _ROLLOUTS.get(o.rollout or "")
    return [Notice(*told)] if told else []


def _drift(o: Overview, now: float) -> list[Notice]:
    found = []
    drifted = [h for h in o.hosts if h.drift and h.checked is not None]
    if drifted:
        names = [f"**{h.name}** ({h.drifted()})" for h in drifted]
        seen = units.duration(now - min(h.checked for h in drifted if h.checked is not None))
        what = f"{_names('Host', names, 'differs', 'differ')} from what was released there, as of {seen} ago."
        remedy = "`cluster-ai verify` names each thing, `cluster-ai apply` puts it right."
        found.append(Notice("warning", what, remedy))
    remedy = "`cluster-ai verify` looks now; `systemctl status cluster-ai-verify` there says why not."
    late = [f"**{h.name}** ({units.duration(now - (h.checked or now))} ago)" for h in o.hosts if h.overdue(now)]
    if late:
        what = f"{_names('Host', late, 'looked', 'looked')} for drift too long ago."
        found.append(Notice("warning", what, remedy))
    never = _bold(h.name for h in o.hosts if h.checked is None and h.awaited)
    if never:
        what = f"{_names('Host', never, 'has', 'have')} never looked for drift."
        found.append(Notice("warning", what, remedy))
    return found


# Alerts of which the rules above tell more, and sooner.
_TOLD = frozenset(
    (
        *("NoWorkers", "WorkerDown", "HostDown", "TargetDown", "SchedulerDown", "RequestsFail"),
        *("MemoryFull", "DiskFull", "Drift", "DriftUnknown", "RolloutWaits", "RolloutStuck"),
    )
)


def _alerts(o: Overview) -> list[Notice]:
    """One notice for all alerts of a name."""
    named: dict[str, list[Firing]] = {}
    for alert in o.firing:
        if alert.name not in _TOLD:
            named.setdefault(alert.name, []).append(alert)
    return [
        Notice(
            "error" if alerts[0].critical else "warning",
            f"{_list([it.summary for it in alerts])}.",
            f"`{alerts[0].runbook}` says why, and what to do." if alerts[0].runbook else f"Alert {name}.",
        )
        for name, alerts in named.items()
    ]


def _share(part: float | None, whole: float | None, *, unknown: float = 0) -> float:
    return part / whole if part is not None and whole else unknown


def _monitoring(o: Overview, now: float | None) -> list[Notice]:
    found = []
    if o.newest is not None and (time.time() if now is None else now) - o.newest > STALE:
        found.append(
            Notice(
                "error",
                "Prometheus has no new values from the gateway.",
                "`systemctl status 'cluster-ai-gateway@*'` on the head host.",
            )
        )
    others = _bold(t for t in o.targets_down if not t.startswith("gateway "))
    if others:
        what = f"Prometheus can't read {_list(others)}."
        found.append(Notice("warning", what, "The host is off, or a firewall is between: `cluster-ai doctor HOST`."))
    return found


def _names(kind: str, names: Sequence[str], one: str, many: str) -> str:
    return f"{kind} {names[0]} {one}" if len(names) == 1 else f"{kind}s {_list(names)} {many}"


def _list(names: Sequence[str], most: int = 5) -> str:
    shown = list(names[:most])
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _bold(names: Iterable[str]) -> list[str]:
    return [f"**{name}**" for name in names]
