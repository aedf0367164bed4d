"""A host finds by itself what others changed on it; Prometheus, `verify` and plan tell it; `apply` puts it right."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from cluster_ai import layout
from cluster_ai.errors import ExitCode
from tests.lab.conftest import Cluster, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

# A file that hides its change, an override, a key for everybody to read, a package that is gone, and a port that
# another program took while our unit was down.
PACKAGE = "pciutils"
OVERRIDE = f"/etc/systemd/system/{layout.ENGINE}.d/override.conf"
DAMAGE = f"""
set -e
cd {layout.CURRENT}/
printf ' ' >>etc/worker.json && touch -r units.txt etc/worker.json
mkdir {OVERRIDE.rpartition("/")[0]} && printf '[Service]\\nEnvironment=OLLAMA_DEBUG=1\\n' >{OVERRIDE}
systemctl daemon-reload
chmod 0644 {layout.TLS}/{layout.KEY}
dpkg --remove --force-depends {PACKAGE}
systemctl stop {layout.FRONT}
systemd-run --quiet --unit=intruder --service-type=exec python3 -m http.server {layout.FRONT_PORT}
"""
LISTENS = f"""
import socket, time
while True:
    try:
        socket.create_connection(("127.0.0.1", {layout.FRONT_PORT}), 1).close()
        break
    except OSError:
        time.sleep(0.1)
"""


def check(cluster: Cluster, host: str) -> None:
    """What the timer does, now."""
    cluster.lab.run_on(host, f"systemctl start {layout.VERIFY}")


def metrics(cluster: Cluster, host: str) -> dict[str, float]:
    """Kind -> number of things, as node_exporter will read them."""
    text = cluster.lab.run_on(host, f"cat {layout.TEXTFILES}/cluster-ai.prom")
    lines = [line for line in text.splitlines() if line.startswith("cluster_drift{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


def ask_prometheus(cluster: Cluster, query: str) -> dict[str, float]:
    """Kind -> value, from Prometheus on the head host."""
    url = "http://127.0.0.1:9090/api/v1/query"
    script = f"curl --silent --fail --get --data-urlencode {shlex.quote(f'query={query}')} {url}"
    result: list[dict[str, Any]] = json.loads(cluster.lab.run_on(cluster.hosts[0], script))["data"]["result"]
    return {series["metric"]["kind"]: float(series["value"][1]) for series in result}


@pytest.fixture
def damaged(cluster: Cluster) -> Iterator[str]:
    """The last host, on which others were at work."""
    host = cluster.hosts[-1]
    try:
        cluster.lab.run_on(host, DAMAGE)
        cluster.lab.run_on(host, f"timeout 300 python3 -c '{LISTENS}'")
        yield host
    finally:
        cluster.lab.run_on(host, f"systemctl stop intruder.service; rm -rf {OVERRIDE.rpartition('/')[0]}", check=False)
        cluster.run("apply", "--yes", "--converge", "--limit", host)


def test_the_log_of_a_component_is_read_from_here(cluster: Cluster) -> None:
    told = cluster.run("logs", cluster.hosts[1], "engine", "--lines", "5")
    assert told.returncode == ExitCode.OK, told.stderr
    assert cluster.hosts[1] in told.stdout
    wrong = cluster.run("logs", cluster.hosts[1], "engine", "--since", "yesteryear")
    assert wrong.returncode == ExitCode.HOST
    assert "journalctl says: Failed to parse timestamp: yesteryear" in wrong.stderr


def test_a_host_that_is_right_says_so_to_prometheus(cluster: Cluster) -> None:
    host = cluster.hosts[1]
    check(cluster, host)
    assert set(metrics(cluster, host).values()) == {0}
    checked = f'cluster_drift{{host="{host}"}} and on (host) time() - cluster_drift_checked_timestamp_seconds < 600'
    until(lambda: set(ask_prometheus(cluster, checked).values()) == {0})
    asked = f"systemctl show -p SubState,NextElapseUSecMonotonic {layout.VERIFY_TIMER}"
    # While a check runs, the timer doesn't know yet when the next will be.
    until(lambda: "SubState=waiting" in (told := cluster.lab.run_on(host, asked)) and "infinity" not in told)


def test_drift_is_found_by_the_host_itself_told_everywhere_and_put_right_by_apply(
    cluster: Cluster, damaged: str
) -> None:
    expected = {"files": 1, "units": 1, "overrides": 1, "credentials": 1, "ports": 1, "packages": 1}
    check(cluster, damaged)
    assert metrics(cluster, damaged) == expected
    until(lambda: ask_prometheus(cluster, f'cluster_drift{{host="{damaged}"}}') == expected)

    planned = json.loads(cluster.run("plan", "--json").stdout)
    changing = {host["host"]: host for host in planned["hosts"] if host["changes"]}
    assert list(changing) == [damaged], changing
    it = changing[damaged]
    assert f"{PACKAGE}: is not installed" in it["host_layer"]
    assert {"etc/worker.json", OVERRIDE} <= set(it["drift"])

    found = cluster.run("verify", "--json", "--limit", damaged)
    assert found.returncode == ExitCode.CHANGES, found.stderr
    (told,) = json.loads(found.stdout)["hosts"]
    faults = {fault["kind"]: fault for fault in told["drift"] if fault["kind"] != "host layer"}
    assert {kind: fault["what"] for kind, fault in faults.items()} == {
        "files": "etc/worker.json",
        "units": layout.FRONT,
        "overrides": OVERRIDE,
        "credentials": f"{layout.TLS}/{layout.KEY}",
        "ports": f"port {layout.FRONT_PORT}",
        "packages": PACKAGE,
    }
    assert {kind for kind, fault in faults.items() if fault["repair"] == "hand"} == {"ports"}
    assert "of intruder.service" in faults["ports"]["how"]

    cluster.lab.run_on(damaged, "systemctl stop intruder.service")  # what is by hand
    done = cluster.run("apply", "--yes")
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    again = cluster.run("verify")
    assert again.returncode == ExitCode.OK, again.stdout
    assert cluster.run("apply", "--yes").stdout.startswith("Nothing to do")
    assert set(metrics(cluster, damaged).values()) == {0}
    running = cluster.lab.run_on(damaged, f"systemctl show -p Environment {layout.ENGINE}")
    assert "OLLAMA_DEBUG" not in running
    kept = cluster.lab.run_on(damaged, f"cat {layout.STATE}/removed/{layout.ENGINE}.d-*/override.conf")
    assert "OLLAMA_DEBUG" in kept
