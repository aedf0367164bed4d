"""Hosts and groups of a configuration, as Ansible and as pyinfra want to be told of them.

Groups: head, workers, and one for each label, such as room_a12. Hosts have the names that our own lists give them.
"""

from __future__ import annotations

import getpass
import hashlib
import shlex
from pathlib import Path
from typing import Any

from cluster_ai import runtime
from cluster_ai.config.groups import group_members
from cluster_ai.config.model import Config, Host, Ssh, hosts
from cluster_ai.inventory.ssh import ssh_argv, ssh_options

PyinfraHost = tuple[str, dict[str, Any]]


def for_ansible(config: Config) -> dict[str, Any]:
    """An inventory, in the form of Ansible's inventory files."""
    from cluster_ai.provision import host_layer

    machines = hosts(config)
    children: dict[str, Any] = {
        name: {"hosts": {member: {} for member in members}} for name, members in group_members(config).items()
    }
    variables = {host.name: ansible_variables(config, host) for host in machines}
    return {"all": {"hosts": variables, "vars": host_layer.variables(config), "children": children}}


def for_ansible_script(config: Config) -> dict[str, Any]:
    """The same, in the form that Ansible wants from a program that it calls with --list."""
    whole = for_ansible(config)["all"]
    groups = {name: {"hosts": list(group["hosts"])} for name, group in whole["children"].items()}
    top = {"hosts": list(whole["hosts"]), "vars": whole["vars"], "children": list(groups)}
    return {"all": top, **groups, "_meta": {"hostvars": whole["hosts"]}}


def for_pyinfra(config: Config) -> dict[str, list[PyinfraHost]]:
    """Groups of (host, data), for pyinfra's own SSH connector."""
    data = {host.name: pyinfra_data(config, host) for host in hosts(config)}
    return {name: [(member, data[member]) for member in members] for name, members in group_members(config).items()}


def ansible_variables(config: Config, host: Host) -> dict[str, Any]:
    """One host's variables."""
    ssh = config.ssh
    variables = {
        "ansible_host": host.address,
        "ansible_user": ssh.user,
        "ansible_port": ssh.port,
        "ansible_ssh_private_key_file": str(ssh.key) if ssh.key else None,
        "ansible_ssh_common_args": shlex.join(
            ssh_options(ssh, persist=False)
        ),  # Ansible shares connections its own way
        "ansible_host_key_checking": True,
        "ansible_become": needs_sudo(ssh),
        "cluster_ai_roles": sorted(host.roles),
    }
    return {name: value for name, value in variables.items() if value is not None}


def pyinfra_data(config: Config, host: Host) -> dict[str, Any]:
    """One host's data."""
    ssh = config.ssh
    data = {
        "ssh_hostname": host.address,
        "ssh_user": ssh.user,
        "ssh_port": ssh.port,
        "ssh_key": str(ssh.key) if ssh.key else None,
        "ssh_known_hosts_file": str(ssh.known_hosts) if ssh.known_hosts else None,
        "ssh_strict_host_key_checking": "yes",
        "ssh_config_file": str(jump_config(config)) if ssh.jump else None,
        "_sudo": needs_sudo(ssh),
        "cluster_ai_name": host.name,
        "cluster_ai_roles": sorted(host.roles),
        "cluster_ai_rsync": ssh_argv(ssh, host.address, persist=False),
    }
    return {name: value for name, value in data.items() if value is not None}


def needs_sudo(ssh: Ssh) -> bool:
    return (ssh.user or getpass.getuser()) != "root"


def jump_config(config: Config) -> Path:
    """A configuration for pyinfra's SSH connector, which learns of a jump host in no other way.

    The person's own configuration comes after it.
    """
    ssh = config.ssh
    everywhere = ["StrictHostKeyChecking yes"]
    if ssh.known_hosts:
        everywhere.append(f'UserKnownHostsFile "{ssh.known_hosts}"')
    if ssh.key:
        everywhere.append(f'IdentityFile "{ssh.key}"')
    addresses = " ".join(host.address for host in hosts(config))
    lines = [f"Host {addresses}", f"  ProxyJump {ssh.jump}", "Host *", *(f"  {line}" for line in everywhere)]
    own = Path("~/.ssh/config").expanduser()
    if own.is_file():
        lines.append(f"Include {own}")
    text = "\n".join(lines) + "\n"
    path = runtime.folder() / f"jump-{hashlib.sha256(text.encode()).hexdigest()[:16]}.conf"
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
    return path
