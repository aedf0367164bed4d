"""How a new release gets to the workers."""

from __future__ import annotations

from typing import Any

from cluster_ai.config.keys import Rules, integer, key, section

OWN = "as for the whole cluster"
CANARY_OWN = "as under `rollout.canary`"


def _canary(**absent: Any) -> Rules:
    """Without a default each, for a group: what isn't said there is as in the cluster's own."""

    def one(doc: str, form: str, default: Any) -> Rules:
        return key(doc, form=form, **(absent or {"default": default}))

    return {
        "hosts": one(
            "Workers that go first: a number, a share such as `'10%'`, or their names. Those that serve models are "
            "taken before others; where they are more than `max_unavailable`, each wave of them is judged.",
            "canaries",
            1,
        ),
        "bake": one(
            "How long they serve before they are judged by what Prometheus measured; `0s`: they aren't.", "wait", "60s"
        ),
        "max_error_rate": one(
            "Most of their requests that may fail, beyond the share that fails without the release.", "percent", "1%"
        ),
        "max_latency_increase": one(
            "Most that their mean response time and time to first token may grow.", "increase", "50%"
        ),
        "max_speed_loss": one("Most tokens per second that they may lose.", "percent", "20%"),
    }


def _policy(**absent: Any) -> Rules:
    def one(doc: str, default: Any, **rules: Any) -> Rules:
        return key(doc, **rules, **(absent or {"default": default}))

    return {
        "strategy": one(
            "`rolling`: wave after wave. `canary`: some workers first, which are judged before the others follow. "
            "`blue-green`: one half, which is judged, then the other.",
            "rolling",
            type="string",
            allowed=["rolling", "canary", "blue-green"],
        ),
        "max_unavailable": one(
            "Workers that change at once: a number, or a share of all (of a group: of its workers), such as `'25%'`. "
            "A model's last replica is kept serving even where more would be allowed.",
            1,
            form="share",
        ),
        "pause": one("How long to wait after a wave of workers before the next one.", "0s", form="wait"),
    }


ROLLOUT: Rules = section(
    "How a new release gets to the workers.",
    {
        **_policy(),
        "canary": section("Who goes first, and what they may do worse (`canary` and `blue-green`).", _canary()),
        "groups": key(
            "Groups of workers that change in another way, by the names that they have in the inventory, such as "
            "`room_a12` for the label `room: 'a12'`. They change one after another in this order, then all others; a "
            "worker in several belongs to the first.",
            type="dict",
            default={},
            keysrules={"form": "name"},
            valuesrules={
                "type": "dict",
                "schema": {
                    **_policy(absent=OWN),
                    "canary": key(
                        "Who goes first in this group, and what they may do worse.",
                        CANARY_OWN,
                        type="dict",
                        schema=_canary(absent=CANARY_OWN),
                    ),
                },
                "meta": {"doc": "How one group changes."},
            },
        ),
        "drain_timeout": key(
            "How long a worker's running answers may take to end before it changes all the same.",
            form="duration",
            default="120s",
        ),
        "keep_releases": integer(
            "Releases that stay on each host; the current and the one before among them.", 2, 100, default=5
        ),
        "gate_timeout": key(
            "How long a host may take to become healthy before it is put back.", form="duration", default="120s"
        ),
    },
)
