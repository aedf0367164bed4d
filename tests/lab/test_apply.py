"""plan, apply, verify and status on real hosts that carry a release. Each test leaves the cluster as it found it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster_ai import layout
from cluster_ai.errors import ExitCode
from tests.lab.conftest import ALERTS, Cluster, until
from tests.rig.alerting import Chat, chat

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

DAMAGE = (
    "cd /opt/cluster-ai/current/ && cp etc/worker.json /run/w && rm etc/worker.json"
    " && sed 's/}/ }/' /run/w > etc/worker.json && rm etc/nginx.conf && touch etc/extra.json"
    " && systemctl stop cluster-ai-front.service"
)
# Nobody reads its measurements any more; all else goes on.
UNREAD = (
    "nft add table inet unread && nft add chain inet unread input '{ type filter hook input priority -10; }'"
    f" && nft add rule inet unread input tcp dport {layout.NODE_EXPORTER_PORT} drop"
)


@pytest.fixture(scope="module", autouse=True)
def webhook(cluster: Cluster) -> Iterator[Chat]:
    """What it is told. An alert takes three minutes to come, so what this one is of begins before the other tests."""
    host = cluster.hosts[1]
    with chat(cluster.lab.gateway, ALERTS) as told:
        cluster.lab.run_on(host, UNREAD)
        yield told
        cluster.lab.run_on(host, "nft delete table inet unread")


def plan(cluster: Cluster, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = cluster.run("plan", "--json", *arguments)
    return done.returncode, json.loads(done.stdout)


def test_a_second_apply_says_that_there_is_nothing_to_do(cluster: Cluster) -> None:
    done = cluster.run("apply", "--yes")
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout.startswith("Nothing to do")
    assert plan(cluster)[0] == ExitCode.OK


def test_another_number_of_replicas_is_planned_exactly_and_then_done(
    cluster: Cluster, edited: Callable[[str, str], None]
) -> None:
    edited("replicas: 2", "replicas: 3")
    code, planned = plan(cluster)
    assert code == ExitCode.CHANGES
    head, *workers = planned["hosts"]
    assert head["changes"]
    assert {unit["unit"] for unit in head["units"]} == {layout.GATEWAY, layout.TASKS}
    (gains,) = [host for host in workers if host["changes"]]
    assert len(gains["models_added"]) == 1
    assert not gains["models_removed"]
    assert [wave["hosts"] for wave in planned["waves"]] == [[head["host"]], [gains["host"]]]
    assert not any(host["host_layer"] or host["credentials"] or host["certificates"] for host in planned["hosts"])

    done = cluster.run("apply", "--yes", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    assert set(json.loads(done.stdout)["done"]) == {head["host"], gains["host"]}
    assert plan(cluster)[0] == ExitCode.OK


def test_a_limit_leaves_every_other_host_alone(cluster: Cluster, edited: Callable[[str, str], None]) -> None:
    edited("num_ctx: 2048", "num_ctx: 1024")
    changing = [host["host"] for host in plan(cluster)[1]["hosts"] if host["changes"]]
    chosen, others = changing[-1], changing[:-1]
    done = cluster.run("apply", "--yes", "--json", "--limit", chosen)
    assert done.returncode == ExitCode.OK, done.stderr
    assert json.loads(done.stdout)["done"] == [chosen]
    assert [host["host"] for host in plan(cluster)[1]["hosts"] if host["changes"]] == others


def test_a_host_that_is_down_is_named_and_the_others_are_finished(
    cluster: Cluster, edited: Callable[[str, str], None]
) -> None:
    down = cluster.hosts[-1]
    edited("num_ctx: 2048", "num_ctx: 1536")
    cluster.lab("kill", down)
    try:
        done = cluster.run("apply", "--yes")
        assert done.returncode == ExitCode.HOST
        assert f"{down}: " in done.stderr
        code, planned = plan(cluster)
        assert code == ExitCode.HOST
        assert [error["where"] for error in planned["errors"]] == [down]
        assert not planned["changes"]
    finally:
        cluster.lab("start", down)


def test_what_was_changed_on_a_host_is_found_by_verify_and_put_right_by_apply(cluster: Cluster) -> None:
    host = cluster.hosts[-1]
    assert cluster.run("verify").returncode == ExitCode.OK
    cluster.lab.run_on(host, DAMAGE)
    found = cluster.run("verify", "--json", "--limit", host)
    planned = plan(cluster)[1]
    done = cluster.run("apply", "--yes")

    assert found.returncode == ExitCode.CHANGES, found.stderr
    (it,) = json.loads(found.stdout)["hosts"]
    assert {fault["what"]: fault["how"] for fault in it["drift"]} == {
        "etc/worker.json": "changed",
        "etc/nginx.conf": "missing",
        "etc/extra.json": "extra",
        "cluster-ai-front.service": "is inactive (dead)",
    }
    assert [it["host"] for it in planned["hosts"] if it["changes"]] == [host]
    assert done.returncode == ExitCode.OK, done.stderr
    again = cluster.run("verify")
    assert again.returncode == ExitCode.OK, again.stdout


def test_status_tells_of_every_host_and_of_the_gateway(cluster: Cluster) -> None:
    done = cluster.run("status", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    assert len(json.loads(done.stdout)["hosts"]) == len(cluster.hosts)

    def all_serve() -> bool:  # one that wasn't reached when it was switched is found by the gateway a little later
        gateway = cluster.json("status")["gateway"]
        return bool(gateway["active_workers"] == gateway["total_workers"] == len(cluster.hosts) - 1)

    until(all_serve)


def test_a_host_that_is_not_in_the_file_is_a_mistake_of_the_file_or_the_command(cluster: Cluster) -> None:
    done = cluster.run("plan", "--limit", "nobody")
    assert done.returncode == ExitCode.CONFIG
    assert "there is no host 'nobody'" in done.stderr


def test_an_alert_comes_from_the_head_where_alertmanager_runs_by_our_unit_alone(
    cluster: Cluster, webhook: Chat
) -> None:

    def told() -> set[str]:  # also of the host that was down for a test, where that took minutes
        return {it["annotations"]["summary"] for got in webhook.told("firing", "HostDown") for it in got["alerts"]}

    until(lambda: f"Host {cluster.hosts[1]} can't be read" in told(), what="the alert")
    head, theirs = cluster.hosts[0], "prometheus-alertmanager"
    assert cluster.lab.run_on(head, f"systemctl is-active {layout.ALERTMANAGER}").strip() == "active"
    assert cluster.lab.run_on(head, f"systemctl is-enabled {theirs}", check=False).strip() == "masked"
    assert cluster.lab.run_on(head, f"journalctl -u {theirs} -o cat -q", check=False).strip() == ""
