"""Prometheus' rule file, and the page of what its alerts mean."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cluster_ai.metrics.alerts import ALERTS, RECORDINGS, Alert

PAGE = "docs/alerts.md"
_HEAD = """\
# Alerts

<!-- Made by `python -m cluster_ai.metrics alerts > docs/alerts.md`; edit cluster_ai/metrics/alerts.py. -->

Prometheus on the head host watches for these by itself; they show on its page (`/alerts`) and in the series `ALERTS`.
**critical** means that requests fail, or soon will. Each alert's annotation `runbook` leads to its section here.

## Who is told

Nobody, until `monitoring.alerts` in cluster.yaml names a receiver. Then the head host gets Alertmanager (Debian's and
Ubuntu's package `prometheus-alertmanager`, on loopback), which tells of an alert half a minute after it fires, again
every four hours, and when it is over:

```yaml
monitoring:
  alerts:
    webhook: 'https://chat.cluster.ai/alerts'   # gets Alertmanager's JSON by POST
    mail: {to: ['ops@cluster.ai'], from: 'cluster@cluster.ai', server: 'mail.cluster.ai:587', user: 'cluster'}
```

```sh
cluster-ai secrets set alerts_webhook_token   # sent as a bearer token; only where the webhook wants one
cluster-ai secrets set alerts_mail_password   # of mail.user
cluster-ai apply
```

An address of a webhook that is itself a secret does not belong into cluster.yaml: put a program of your own before it.
"""


def rules() -> str:
    """The rule file, as JSON, which is YAML too."""
    recorded = [{"record": it.name, "expr": it.expr} for it in RECORDINGS]
    groups = [{"name": "recordings", "rules": recorded}, {"name": "alerts", "rules": [_rule(it) for it in ALERTS]}]
    return json.dumps({"groups": groups}, indent=2) + "\n"


def _rule(alert: Alert) -> dict[str, object]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.lasts,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": f"{alert.meaning} {alert.remedy}",
            "runbook": f"{PAGE}#{alert.name.lower()}",
        },
    }


def page(alerts: Sequence[Alert] = ALERTS) -> str:
    sections = (
        f"\n## {it.name}\n\n{it.severity}, after {it.lasts} of `{it.expr}`\n\n{it.meaning}\n\n"
        f"**What to do:** {it.remedy}\n"
        for it in alerts
    )
    return _HEAD + "".join(sections)
