"""The inventory, as the real pyinfra and the real Ansible read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.rig.processes import PATIENCE
from tests.unit.config.test_load import SEED

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
HOSTS = {"scheduler.cluster.ai", "gpu-worker-01", "cpu-worker-01"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "cluster.yaml"
    file.write_text(SEED + "  ssh: {user: deploy, port: 2222, key: ./id, known_hosts: ./known}\n")
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "CLUSTER_AI_CONFIG": str(file),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "ansible"),
        "PYINFRA_PROGRESS": "off",
    }


def run(environment: dict[str, str], *command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=cwd, timeout=PATIENCE, check=False
    )


def pyinfra(environment: dict[str, str], inventory: str, cwd: Path = ROOT) -> list[dict[str, Any]]:
    done = run(environment, "pyinfra", inventory, "--json", "debug-inventory", cwd=cwd)
    assert done.returncode == 0, done.stderr
    answer: list[dict[str, Any]] = json.loads(done.stdout)
    return answer


def names(answer: list[dict[str, Any]]) -> set[str]:
    return {host["name"] for host in answer}


def test_ansible_reads_hosts_groups_and_variables(environment: dict[str, str], tmp_path: Path) -> None:
    done = run(environment, "ansible-inventory", "-i", "inventory/hosts.py", "--list")
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    answer = json.loads(done.stdout)
    assert set(answer["_meta"]["hostvars"]) == HOSTS
    assert set(answer["workers"]["hosts"]) == {"gpu-worker-01", "cpu-worker-01"}
    worker = answer["_meta"]["hostvars"]["gpu-worker-01"]
    assert (worker["ansible_user"], worker["ansible_port"]) == ("deploy", 2222)
    assert worker["ansible_ssh_private_key_file"] == str(tmp_path / "id")
    assert "base_users" in worker


def test_ansible_playbook_accepts_it(environment: dict[str, str]) -> None:
    done = run(environment, "ansible-playbook", "-i", "inventory/hosts.py", "playbooks/site.yml", "--list-hosts")
    assert done.returncode == 0, done.stderr
    assert all(host in done.stdout for host in HOSTS)


@pytest.mark.parametrize("inventory", ["inventory/hosts.py", "inventory", "inventory/"])
def test_pyinfra_reads_the_file_and_the_name_of_its_folder(environment: dict[str, str], inventory: str) -> None:
    assert names(pyinfra(environment, inventory)) == HOSTS


def test_pyinfra_finds_the_connector(environment: dict[str, str], tmp_path: Path) -> None:
    assert names(pyinfra(environment, "@cluster", cwd=tmp_path)) == {f"@cluster/{host}" for host in HOSTS}
    assert names(pyinfra(environment, "@cluster/gpu-worker-01", cwd=tmp_path)) == {"@cluster/gpu-worker-01"}


@pytest.mark.parametrize("inventory", ["inventory/hosts.py", "inventory", "@cluster"])
def test_pyinfra_tells_what_is_wrong_with_the_file(environment: dict[str, str], inventory: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(SEED.replace("8786", "x"))
    done = run(environment, "pyinfra", inventory, "debug-inventory")
    assert done.returncode != 0
    assert "cluster.yaml:6:11: cluster.scheduler.port: found 'x'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_connector_names_what_there_is(environment: dict[str, str]) -> None:
    done = run(environment, "pyinfra", "@cluster/nowhere", "debug-inventory")
    assert done.returncode != 0
    assert "no host and no group 'nowhere'; it has: scheduler.cluster.ai" in done.stdout + done.stderr


def test_ansible_tells_what_is_wrong_with_the_file(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(SEED.replace("8786", "x"))
    done = run(environment, "ansible-inventory", "-i", "inventory/hosts.py", "--list")
    said = " ".join((done.stdout + done.stderr).split())
    assert "cluster.scheduler.port: found 'x'" in said


def test_any_python_runs_the_file(environment: dict[str, str]) -> None:
    python = shutil.which("python3", path=os.defpath) or sys.executable
    done = run(environment, python, "-I", "inventory/hosts.py", "--list")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["_meta"]["hostvars"]) == HOSTS
    assert json.loads(run(environment, python, "inventory/hosts.py", "--host", "nowhere").stdout) == {}
    assert run(environment, python, "inventory/hosts.py").returncode == 64
