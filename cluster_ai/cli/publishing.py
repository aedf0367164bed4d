"""A plan in the words of `cluster-ai plan`, for people who have no controller to ask."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Any

from cluster_ai.cli.render import alike, schedule, summary
from cluster_ai.config.model import Config
from cluster_ai.rollout.changes import changes, sentence
from cluster_ai.rollout.lock import user
from cluster_ai.rollout.plan import Plan
from cluster_ai.rollout.records import config_digest

MOST = 100  # groups of hosts on which the same changes


def words(plan: Plan, config: Config, limit: Sequence[str]) -> dict[str, Any]:
    """As gateway/api/native/plan.py tells it on."""
    groups = alike(plan)
    hosts = [{"hosts": it.title, "changes": [f"{heading}: {what}" for heading, what in it.lines]} for it in groups]
    return {
        "made": time.time(),
        "who": f"{user()}@{socket.gethostname()}",
        "configuration": config_digest(config),
        "text": config.path.read_text(encoding="utf-8"),
        "limit": list(limit),
        "summary": summary(plan),
        "changes": [sentence(change) for change in changes(plan.hosts)],
        "waves": [
            {"when": heading, "hosts": what, "meanwhile": list(notes)}
            for heading, what, notes in (schedule(plan) if plan.changes else ())
        ],
        "hosts": hosts[:MOST],
        "left_out": sum(len(it.hosts) for it in groups[MOST:]),
        "unreachable": [f"{error.where}: {error.what}" for error in plan.errors],
    }
