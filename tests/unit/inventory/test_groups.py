from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cluster_ai.config import load_text
from cluster_ai.config.groups import label_group
from cluster_ai.config.model import Ssh
from cluster_ai.inventory import for_ansible, for_ansible_script, for_pyinfra
from cluster_ai.inventory.groups import jump_config
from tests.unit.config.test_load import SEED

LABELLED = SEED.replace(
    "      resources: {cpu: 16", "      labels: {room: 'a 12', '2nd': x}\n      resources: {cpu: 16"
)
CONFIG = load_text(LABELLED, "cluster.yaml")
SSH = Ssh("deploy", 2222, Path("/k/id"), Path("/k/known_hosts"), None)


def test_groups_are_head_workers_and_one_for_each_label() -> None:
    groups = for_pyinfra(CONFIG)
    assert {name: [host for host, _ in members] for name, members in groups.items()} == {
        "head": ["scheduler.cluster.ai"],
        "workers": ["gpu-worker-01", "cpu-worker-01"],
        "room_a_12": ["cpu-worker-01"],
        "label_2nd_x": ["cpu-worker-01"],
    }


@pytest.mark.parametrize(("key", "value"), [("a.b", "c-d"), ("0", "1"), ("_x", "é ü")])
def test_a_group_has_a_name_that_both_tools_accept(key: str, value: str) -> None:
    assert label_group(key, value).isidentifier()
    assert not label_group(key, value).startswith("_")


def test_pyinfra_is_told_all_of_ssh_and_checks_host_keys() -> None:
    _, data = for_pyinfra(dataclasses.replace(CONFIG, ssh=SSH))["workers"][0]
    assert data["ssh_hostname"] == "gpu-worker-01"
    assert (data["ssh_user"], data["ssh_port"], data["ssh_key"]) == ("deploy", 2222, "/k/id")
    assert data["ssh_known_hosts_file"] == "/k/known_hosts"
    assert data["ssh_strict_host_key_checking"] == "yes"
    assert data["_sudo"] is True
    assert data["cluster_ai_roles"] == ["worker"]


def test_root_needs_no_sudo() -> None:
    config = dataclasses.replace(CONFIG, ssh=dataclasses.replace(SSH, user="root"))
    assert for_pyinfra(config)["head"][0][1]["_sudo"] is False
    assert for_ansible(config)["all"]["hosts"]["gpu-worker-01"]["ansible_become"] is False


def test_ansible_is_told_all_of_ssh_and_checks_host_keys() -> None:
    variables = for_ansible(dataclasses.replace(CONFIG, ssh=SSH))["all"]["hosts"]["gpu-worker-01"]
    assert variables["ansible_host"] == "gpu-worker-01"
    assert (variables["ansible_user"], variables["ansible_port"]) == ("deploy", 2222)
    assert variables["ansible_ssh_private_key_file"] == "/k/id"
    assert "StrictHostKeyChecking=yes" in variables["ansible_ssh_common_args"]
    assert "UserKnownHostsFile=/k/known_hosts" in variables["ansible_ssh_common_args"]
    assert variables["ansible_host_key_checking"] is True
    assert variables["ansible_become"] is True


def test_what_is_not_said_is_not_in_the_variables() -> None:
    assert None not in for_ansible(CONFIG)["all"]["hosts"]["gpu-worker-01"].values()
    assert "ssh_user" not in for_pyinfra(CONFIG)["workers"][0][1]


def test_the_listing_says_the_same_as_the_inventory_and_spares_ansible_a_call_for_each_host() -> None:
    whole, listing = for_ansible(CONFIG)["all"], for_ansible_script(CONFIG)
    assert listing["_meta"]["hostvars"] == whole["hosts"]
    assert listing["all"]["vars"] == whole["vars"]
    assert {name: set(group["hosts"]) for name, group in whole["children"].items()} == {
        name: set(listing[name]["hosts"]) for name in listing["all"]["children"]
    }


def test_a_jump_host_is_gone_through_for_the_hosts_and_not_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    config = dataclasses.replace(CONFIG, ssh=dataclasses.replace(SSH, jump="me@bastion"))
    path = jump_config(config)
    try:
        assert path.read_text() == (
            "Host scheduler.cluster.ai gpu-worker-01 cpu-worker-01\n"
            "  ProxyJump me@bastion\n"
            "Host *\n"
            "  StrictHostKeyChecking yes\n"
            '  UserKnownHostsFile "/k/known_hosts"\n'
            '  IdentityFile "/k/id"\n'
        )
    finally:
        path.unlink()
