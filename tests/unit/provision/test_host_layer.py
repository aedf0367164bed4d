"""What the roles are told, and the stamp that says whether a host was told it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.config.load import load_text
from cluster_ai.config.model import hosts
from cluster_ai.errors import ClusterAIError, HostError
from cluster_ai.provision import host_layer

TEXT = """\
version: '1.0'
cluster:
  name: 'test'
  scheduler: {host: '10.0.0.1'}
  workers:
    - {name: 'one', host: '10.0.0.2', resources: {cpu: 8, memory: '32GB'}}
    - {name: 'two', host: '10.0.0.3', resources: {cpu: 8, memory: '32GB'}}
  models: []
"""
CONFIG = load_text(TEXT, Path("/nowhere/cluster.yaml"))
TOLD = load_text(TEXT + "  monitoring: {alerts: {webhook: 'http://chat.test/x'}}\n", Path("/nowhere/cluster.yaml"))
HEAD, ONE, TWO = hosts(CONFIG)
DEBIAN = "debian-12"


def test_the_firewall_knows_every_port_of_the_architecture_that_is_not_at_loopback() -> None:
    services = {service["name"]: service for service in host_layer.variables(CONFIG)["firewall_services"]}
    assert {service["ports"] for service in services.values()} == {
        str(CONFIG.gateway.port),
        str(CONFIG.interface.dashboard_port),
        str(CONFIG.scheduler.port),
        str(layout.ISSUER_PORT),
        str(layout.FRONT_PORT),
        str(layout.NODE_EXPORTER_PORT),
        str(layout.PEER_PORT),
        "8790-8799",
        "8800-8809",
    }
    assert services["engine front"]["from"] == "head"
    assert services["node_exporter"]["hosts"] == ["head", "worker"]


def test_a_cluster_without_a_dashboard_opens_no_port_for_it() -> None:
    without = dataclasses.replace(CONFIG, interface=dataclasses.replace(CONFIG.interface, dashboard=False))
    assert "dashboard" not in {service["name"] for service in host_layer.variables(without)["firewall_services"]}


def test_openings_of_the_configuration_are_the_firewalls_extra_ports() -> None:
    text = TEXT + "  firewall: {allow: ['8000/tcp', '60000-61000/udp', '2049/tcp from 10.0.0.0/8']}\n"
    config = load_text(text, Path("/nowhere/cluster.yaml"))
    assert host_layer.variables(config)["firewall_extra"] == [
        {"ports": "8000", "protocol": "tcp"},
        {"ports": "60000-61000", "protocol": "udp"},
        {"ports": "2049", "protocol": "tcp", "from": ["10.0.0.0/8"]},
    ]
    assert host_layer.stamp(config, ONE, DEBIAN) != host_layer.stamp(CONFIG, ONE, DEBIAN)


def test_a_firewall_that_is_not_ours_is_said_to_the_role() -> None:
    config = load_text(TEXT + "  firewall: {manage: false}\n", Path("/nowhere/cluster.yaml"))
    assert (host_layer.variables(CONFIG)["firewall_manage"], host_layer.variables(config)["firewall_manage"]) == (
        True,
        False,
    )
    assert host_layer.stamp(config, ONE, DEBIAN) != host_layer.stamp(CONFIG, ONE, DEBIAN)


def test_packages_follow_the_roles_of_a_host() -> None:
    head, worker = host_layer.packages(CONFIG, ["head"]), host_layer.packages(CONFIG, ["worker"])
    assert {"prometheus", "nginx"} & set(head) == {"prometheus"}
    assert {"prometheus", "nginx"} & set(worker) == {"nginx"}
    assert {"chrony", "nftables", "prometheus-node-exporter", "python3"} <= set(head) & set(worker)
    assert set(host_layer.packages(CONFIG, ["worker", "head"])) == set(head) | set(worker)


def test_alertmanager_is_installed_where_there_is_anybody_to_tell() -> None:
    assert "prometheus-alertmanager" in host_layer.packages(TOLD, ["head"])
    assert "prometheus-alertmanager" not in host_layer.packages(TOLD, ["worker"])
    assert "prometheus-alertmanager" not in host_layer.packages(CONFIG, ["head"])
    assert [host_layer.variables(it)["alertmanager_wanted"] for it in (TOLD, CONFIG)] == [True, False]
    assert "prometheus-alertmanager" in host_layer.variables(TOLD)["base_packages_later"]["head"]


def test_a_time_service_is_not_installed_before_its_role_has_looked() -> None:
    later = host_layer.variables(CONFIG)["base_packages_later"]
    assert "chrony" not in later["head"] + later["worker"]


def test_a_stamp_is_that_of_the_host_and_the_same_each_time() -> None:
    stamps = [host_layer.stamp(CONFIG, host, DEBIAN) for host in (HEAD, ONE)]
    assert stamps == [host_layer.stamp(CONFIG, host, DEBIAN) for host in (HEAD, ONE)]
    assert len(set(stamps)) == 2
    assert host_layer.stamp(CONFIG, ONE, "debian-13") != stamps[1]


def test_stamps_of_all_hosts_are_those_of_each() -> None:
    distributions = {HEAD.name: DEBIAN, ONE.name: DEBIAN, TWO.name: "debian-13"}
    assert host_layer.stamps(CONFIG, distributions) == {
        host.name: host_layer.stamp(CONFIG, host, distributions[host.name]) for host in (HEAD, ONE, TWO)
    }
    assert list(host_layer.stamps(CONFIG, {ONE.name: DEBIAN})) == [ONE.name]


def test_a_port_of_the_head_leaves_the_workers_stamps_alone() -> None:
    other = dataclasses.replace(CONFIG, gateway=dataclasses.replace(CONFIG.gateway, port=12000))
    assert host_layer.stamp(other, ONE, DEBIAN) == host_layer.stamp(CONFIG, ONE, DEBIAN)
    assert host_layer.stamp(other, HEAD, DEBIAN) != host_layer.stamp(CONFIG, HEAD, DEBIAN)


def test_a_new_worker_changes_every_stamp_since_each_firewall_must_know_it() -> None:
    fewer = dataclasses.replace(CONFIG, workers=CONFIG.workers[:1])
    for host in (HEAD, ONE):
        assert host_layer.stamp(fewer, host, DEBIAN) != host_layer.stamp(CONFIG, host, DEBIAN)


def test_models_and_engine_are_none_of_the_host_layers_business() -> None:
    other = dataclasses.replace(CONFIG, engine=dataclasses.replace(CONFIG.engine, version="9.9"), name="other")
    assert host_layer.stamp(other, ONE, DEBIAN) == host_layer.stamp(CONFIG, ONE, DEBIAN)


@pytest.mark.parametrize("distribution", ["debian-12", "debian-13", "ubuntu-24.04"])
def test_supported_distributions_pass(distribution: str) -> None:
    host_layer.require_supported("h1", distribution)


@pytest.mark.parametrize("distribution", ["debian-11", "ubuntu-22.04", "fedora-40", "arch", ""])
def test_other_distributions_are_refused_by_name_with_a_remedy(distribution: str) -> None:
    with pytest.raises(HostError) as caught:
        host_layer.require_supported("h1", distribution)
    assert caught.value.where == "h1"
    assert "Ubuntu 24.04" in caught.value.remedy


def test_a_package_without_its_checkout_says_so(tmp_path: Path) -> None:
    with pytest.raises(ClusterAIError) as caught:
        host_layer.require_checkout(tmp_path)
    assert "playbooks/site.yml" in caught.value.what
    assert "checkout" in caught.value.remedy
