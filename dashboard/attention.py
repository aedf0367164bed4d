"""What a person should look at, out of what the dashboard knows: pure, so that each rule is tested by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dashboard import units
from dashboard.gateway import ServedModel
from dashboard.queries import Overview

STALE = 60.0  # seconds without a scrape before the data is called old
FULL = 0.9  # share of memory or disk in use


@dataclass(frozen=True, slots=True)
class Notice:
    level: Literal["error", "warning"]
    what: str
    remedy: str


def notices(overview: Overview, models: Sequence[ServedModel], *, now: float | None = None) -> list[Notice]:
    """Errors first; within a level, what stops work comes before what slows it."""
    found = [
        *_workers(overview),
        *_models(models, overview),
        *_answers(overview),
        *_hosts(overview),
        *_monitoring(overview, now),
    ]
    return sorted(found, key=lambda n: n.level != "error")


def _workers(o: Overview) -> list[Notice]:
    if not o.workers_down:
        return []
    everyone = not o.workers_up
    who = "No worker answers" if everyone else _names("Worker", o.workers_down, "does not answer", "do not answer")
    remedy = "`cluster-ai status` says why; on the host: `systemctl status cluster-ai-engine cluster-ai-front`."
    return [Notice("error", f"{who}.", remedy)]


def _models(models: Sequence[ServedModel], o: Overview) -> list[Notice]:
    gone = [m.name for m in models if m.placed and not m.available]
    if not gone or not o.workers_up:  # without a worker there is no model: said once is enough
        return []
    return [
        Notice(
            "error",
            f"{_names('Model', gone, 'is served by no worker', 'are served by no worker')}.",
            "`cluster-ai verify` finds what is missing.",
        )
    ]


def _answers(o: Overview) -> list[Notice]:
    found = []
    if o.failed >= 0.5 and o.finished:
        ratio = o.failed / o.finished
        level: Literal["error", "warning"] = "error" if ratio > 0.05 else "warning"
        what = f"{units.share(ratio)} of the requests failed ({units.count(o.failed)} of {units.count(o.finished)})."
        found.append(Notice(level, what, "The gateway's log says which: `journalctl -u cluster-ai-gateway`."))
    if o.failovers >= 0.5:
        what = f"{units.count(o.failovers)} requests went to another worker because the first one failed them."
        found.append(Notice("warning", what, "Nothing was lost, but a worker is unsteady: see Workers."))
    return found


def _hosts(o: Overview) -> list[Notice]:
    found = []
    memory = [
        h.name
        for h in o.hosts
        if h.memory_total and h.memory_used is not None and h.memory_used / h.memory_total > FULL
    ]
    if memory:
        what = f"{_names('Host', memory, 'has', 'have')} less than {units.share(1 - FULL)} of memory left."
        found.append(Notice("warning", what, "Place fewer or smaller models there, or shorten `num_ctx`."))
    disk = [
        h.name for h in o.hosts if h.disk_total and h.disk_free is not None and h.disk_free / h.disk_total < 1 - FULL
    ]
    if disk:
        what = f"{_names('Host', disk, 'has', 'have')} less than {units.share(1 - FULL)} of disk left."
        found.append(Notice("warning", what, "Remove old releases or models: see `rollout.keep_releases`."))
    return found


def _monitoring(o: Overview, now: float | None) -> list[Notice]:
    found = []
    if o.newest is not None and (time.time() if now is None else now) - o.newest > STALE:
        found.append(
            Notice(
                "error",
                "Prometheus has no new values from the gateway.",
                "`systemctl status cluster-ai-gateway` on the head host.",
            )
        )
    others = [t for t in o.targets_down if not t.startswith("gateway ")]
    if others:
        what = f"Prometheus can't read {_list(others)}."
        found.append(Notice("warning", what, "The host is off, or a firewall is between: `cluster-ai doctor HOST`."))
    return found


def _names(kind: str, names: Sequence[str], one: str, many: str) -> str:
    return f"{kind} **{names[0]}** {one}" if len(names) == 1 else f"{kind}s {_list(names)} {many}"


def _list(names: Sequence[str], most: int = 5) -> str:
    shown = [f"**{name}**" for name in names[:most]]
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
