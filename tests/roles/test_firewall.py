"""The rules as the template writes them for hosts of a cluster: rendered by Ansible, judged by nft."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster_ai.config.load import load_text
from cluster_ai.config.model import Config
from cluster_ai.provision import host_layer
from tests.unit.provision.test_host_layer import CONFIG, TEXT

from .plugins import ROOT

ADDRESSES = {it: [it] for it in ("10.0.0.1", "10.0.0.2", "10.0.0.0/8")} | {"10.0.0.3": ["10.0.0.3", "fd00::3"]}


def render(folder: Path, roles: list[str], config: Config = CONFIG) -> list[str]:
    variables = {
        **host_layer.variables(config),
        "firewall_roles": roles,
        "firewall__ssh": [22, 2222],
        "firewall__seen": {"addresses": ADDRESSES},
    }
    (folder / "vars.json").write_text(json.dumps(variables))
    file = folder / "rules.nft"
    template = f"src={ROOT}/roles/firewall/templates/cluster-ai.nft.j2 dest={file} mode=0600"
    program = str(Path(sys.executable).with_name("ansible"))
    # By -i, not by $ANSIBLE_INVENTORY: that is a list of paths, and Ansible runs executable files that it finds there.
    argv = [
        program,
        "localhost",
        "-i",
        "localhost,",
        "-c",
        "local",
        "-e",
        f"@{folder}/vars.json",
        "-m",
        "template",
        "-a",
        template,
    ]
    env = {
        **os.environ,
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_HOME": str(folder),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if os.geteuid() == 0 and shutil.which("nft"):
        judged = subprocess.run(["nft", "-c", "-f", file], capture_output=True, text=True, check=False)
        assert judged.returncode == 0, judged.stderr + file.read_text()
    return [line.strip() for line in file.read_text().splitlines() if "dport" in line]


def ports(rules: list[str]) -> dict[str, str]:
    """Port -> who may reach it."""
    found = (
        re.match(r"(?:ip6? saddr (?P<from>\{[^}]*\}|\S+) )?(?:tcp|udp) dport (?P<port>[\d-]+) ", rule) for rule in rules
    )
    return {match["port"]: match["from"] or "anyone" for match in found if match}


def test_the_head_lets_clients_to_the_gateway_and_the_cluster_to_the_scheduler(tmp_path: Path) -> None:
    rules = render(tmp_path, ["head"])
    assert 'tcp dport { 22, 2222 } accept comment "SSH"' in rules
    whole = ports([rule for rule in rules if "ip6" not in rule])
    assert whole == {
        "11435": "anyone",
        "8501": "anyone",
        "8786": "{ 10.0.0.1, 10.0.0.2, 10.0.0.3 }",
        "11445": "{ 10.0.0.1, 10.0.0.2, 10.0.0.3 }",
        "11444": "{ 10.0.0.1, 10.0.0.2, 10.0.0.3 }",
        "9100": "{ 10.0.0.1 }",
    }


def test_a_worker_lets_the_head_to_its_engine_and_the_cluster_to_its_dask_ports(tmp_path: Path) -> None:
    rules = render(tmp_path, ["worker"])
    whole = ports([rule for rule in rules if "ip6" not in rule])
    everyone = "{ 10.0.0.1, 10.0.0.2, 10.0.0.3 }"
    assert whole == {
        "11443": "{ 10.0.0.1 }",
        "8790-8799": everyone,
        "8800-8809": everyone,
        "9100": "{ 10.0.0.1 }",
        "11444": everyone,
    }
    assert any(rule.startswith("ip6 saddr { fd00::3 } tcp dport 8790-8799") for rule in rules)


def test_ports_of_ones_own_are_opened_too(tmp_path: Path) -> None:
    allow = "['80/tcp', '60000-61000/udp', '2049/tcp from 10.0.0.0/8', '5353/udp from 10.0.0.3']"
    config = load_text(TEXT + f"  firewall: {{allow: {allow}}}\n", "cluster.yaml")
    rules = [rule for rule in render(tmp_path, ["worker"], config) if '"extra"' in rule]
    assert rules == [
        'tcp dport 80 accept comment "extra"',
        'udp dport 60000-61000 accept comment "extra"',
        'ip saddr { 10.0.0.0/8 } tcp dport 2049 accept comment "extra"',
        'ip saddr { 10.0.0.3 } udp dport 5353 accept comment "extra"',
        'ip6 saddr { fd00::3 } udp dport 5353 accept comment "extra"',
    ]


@pytest.mark.parametrize("roles", [["head"], ["worker"], ["head", "worker"]])
def test_what_listens_at_loopback_is_never_opened(tmp_path: Path, roles: list[str]) -> None:
    assert not {"11434", "8787", "9090"} & ports(render(tmp_path, roles)).keys()
