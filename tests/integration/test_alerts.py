"""An alert goes its whole way: a gateway's metrics, a real Prometheus, a real Alertmanager, a webhook."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from cluster_ai.metrics.names import ACTIVE_WORKERS
from tests.rig.alerting import PROGRAMS, TOKEN, chat, installed, watching
from tests.rig.processes import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not installed(), reason=f"needs {' and '.join(PROGRAMS)} (Debian's)"),
]


def test_an_alert_reaches_the_webhook_with_its_token_and_what_to_do_and_so_does_its_end(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    workers = Gauge(ACTIVE_WORKERS.name, ACTIVE_WORKERS.help, registry=registry)
    gateway, served = start_http_server(0, "127.0.0.1", registry)
    try:
        with chat() as webhook, watching(tmp_path, f"127.0.0.1:{gateway.server_port}", webhook):
            until(lambda: webhook.told("firing", "NoWorkers"), what="the alert")
            workers.set(2)
            until(lambda: webhook.told("resolved", "NoWorkers"), what="its end")
    finally:
        gateway.shutdown()
        gateway.server_close()
        served.join()
    assert {token for token, _ in webhook.got} == {f"Bearer {TOKEN}"}
    first = webhook.told("firing", "NoWorkers")[0]
    (alert,) = first["alerts"]
    assert alert["labels"]["severity"] == "critical"
    assert alert["labels"]["cluster"] == "lab"
    assert alert["annotations"]["runbook"] == "docs/alerts.md#noworkers"
    assert "cluster-ai status" in alert["annotations"]["description"]
