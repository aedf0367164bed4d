from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai import layout
from cluster_ai.host import ports
from cluster_ai.host.ports import Owner
from cluster_ai.settings import Listener

FRONT = Listener(11443, layout.FRONT)
GATEWAY = Listener(11435, layout.GATEWAY_SOCKET)
NODE = Listener(9100, layout.NODE_EXPORTER)


def told(wanted: Listener, there: dict[int, list[Owner]], *, active: bool = True) -> list[str]:
    return [f"{fault} [{fault.repair}]" for fault in ports.compare([wanted], {wanted.unit: active}, there)]


def test_a_port_that_our_own_unit_has_is_right() -> None:
    assert told(FRONT, {11443: [Owner(layout.FRONT, "nginx", 7), Owner(layout.FRONT, "nginx", 8)]}) == []


def test_a_socket_unit_shares_its_port_with_systemd_and_its_service_and_its_services_instances() -> None:
    instance = Owner("cluster-ai-gateway@blue.service", "python3", 9)
    owners = [Owner("init.scope", "systemd", 1), Owner(layout.GATEWAY, "python3", 8), instance]
    assert told(GATEWAY, {11435: owners}) == []


def test_a_program_of_others_on_our_port_is_named_once_with_its_unit_and_left_to_people() -> None:
    foreign = [Owner("session-1.scope", "nc", 40), Owner("session-1.scope", "nc", 41), Owner("", "init", 3)]
    assert told(FRONT, {11443: foreign}) == [
        f"port 11443: nc (process 41 of session-1.scope) listens on it; it is {layout.FRONT}'s [hand]",
        f"port 11443: init (process 3) listens on it; it is {layout.FRONT}'s [hand]",
    ]


def test_a_port_on_which_nobody_listens_is_missed_but_not_of_a_unit_that_does_not_run() -> None:
    assert told(FRONT, {}) == [f"port 11443: {layout.FRONT} doesn't listen on it, though it runs [hand]"]
    assert told(FRONT, {}, active=False) == []


def test_an_absent_node_exporter_is_for_the_host_layer_to_start() -> None:
    assert told(NODE, {}, active=False) == [f"port 9100: {layout.NODE_EXPORTER} doesn't listen on it [host layer]"]


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/cluster-ai-front.service\n", "cluster-ai-front.service"),
        ("4:memory:/x.service\n1:name=systemd:/system.slice/a.service/inner\n", "a.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_a_process_belongs_to_the_innermost_unit_of_its_control_group(cgroup: str, unit: str) -> None:
    assert ports.unit_of(cgroup) == unit


@given(st.text())
def test_any_control_group_is_read(cgroup: str) -> None:
    assert isinstance(ports.unit_of(cgroup), str)


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_who_listens_here_is_found_by_the_kernels_own_tables(family: int, address: str) -> None:
    if family == socket.AF_INET6 and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        inodes = ports.listening()[port]
        (inode,) = inodes & {os.fstat(server.fileno()).st_ino}
        assert os.getpid() in {owner.pid for owner in ports.owners_of({inode})[inode]}
    assert inode not in ports.listening().get(port, set())
