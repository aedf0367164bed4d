"""Alertmanager's configuration: who is told of alerts. Pure."""

from __future__ import annotations

import json
from typing import Any

from cluster_ai import layout
from cluster_ai.config.model import Config, Mail

# Alerts of one name come together, after the time in which others like it fire too; and again while it goes on.
GROUP_WAIT, GROUP_INTERVAL, REPEAT = "30s", "5m", "4h"
_CREDENTIALS = f"/run/credentials/{layout.ALERTMANAGER}"


def alertmanager(config: Config) -> str:
    """alertmanager.yml, as JSON, which is YAML too."""
    alerts = config.monitoring.alerts
    receiver: dict[str, Any] = {"name": "people"}
    if alerts.webhook:
        # Where no token is wanted, the file has an empty line, and the header no token.
        authorization = {"credentials_file": f"{_CREDENTIALS}/{layout.ALERTS_TOKEN}"}
        receiver["webhook_configs"] = [{"url": alerts.webhook, "http_config": {"authorization": authorization}}]
    if alerts.mail:
        receiver["email_configs"] = [_mail(alerts.mail, to, config.name) for to in alerts.mail.to]
    whole = {
        "route": {
            "receiver": "people",
            "group_by": ["alertname"],
            "group_wait": GROUP_WAIT,
            "group_interval": GROUP_INTERVAL,
            "repeat_interval": REPEAT,
        },
        # Where nobody answers at all, single workers that are down tell nothing new.
        "inhibit_rules": [
            {"source_matchers": ["alertname = NoWorkers"], "target_matchers": ["alertname = WorkerDown"]},
        ],
        "receivers": [receiver],
    }
    return json.dumps(whole, indent=2) + "\n"


def _mail(mail: Mail, to: str, cluster: str) -> dict[str, Any]:
    login = {"auth_username": mail.user, "auth_password_file": f"{_CREDENTIALS}/{layout.ALERTS_PASSWORD}"}
    subject = "{{ .Status }}: {{ .GroupLabels.alertname }}"
    return {
        "to": to,
        "from": mail.sender,
        "smarthost": mail.server,
        "require_tls": True,
        "send_resolved": True,
        "headers": {"Subject": f"[{cluster}] {subject}"},
        **(login if mail.user else {}),
    }
