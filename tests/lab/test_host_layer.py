"""The host layer on real hosts that have no way out: a head and a worker, converged with bundles of .deb files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from cluster_ai import layout
from cluster_ai.config.load import load
from cluster_ai.config.model import Config, Packages, hosts
from cluster_ai.errors import HostError
from cluster_ai.inventory.groups import for_ansible
from cluster_ai.inventory.ssh import ssh_argv
from cluster_ai.provision import host_layer
from cluster_ai.provision.ansible import AnsibleResult, TaskEvent, converge
from cluster_ai.security import ca

from .conftest import CACHE, ROOT, Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]
HEAD, WORKER = "h1", "h2"  # as lab.py calls them; in cluster.yaml the head host has its address for a name
CLUSTER_YAML = """\
version: '1.0'
cluster:
  name: 'host-layer'
  scheduler: {{host: '{head}'}}
  workers:
    - name: 'h2'
      host: '{worker}'
      resources: {{cpu: 1, memory: '1GB'}}
  models: []
  ssh: {{user: '{user}', key: '{key}', known_hosts: '{known_hosts}'}}
  packages: {{source: bundle}}
"""


@dataclass(frozen=True)
class Site:
    """Two hosts, and what the first convergence of them said."""

    lab: Lab
    config: Config
    first: AnsibleResult
    events: tuple[TaskEvent, ...]

    def converge(self, config: Config | None = None, **options: object) -> AnsibleResult:
        return run(config or self.config, lambda event: None, **options)


def run(config: Config, on_event: Callable[[TaskEvent], None], **options: object) -> AnsibleResult:
    asked = {"hosts": [host.name for host in hosts(config)], "stamps": stamps(config), "sudo_password": None, **options}
    return converge(config, on_event=on_event, **asked)  # type: ignore[arg-type]


def stamps(config: Config) -> dict[str, str]:
    return {host.name: host_layer.stamp(config, host, "debian-12") for host in hosts(config)}


def write(lab: Lab, user: str) -> Config:
    path = lab.dir / f"cluster-{user}.yaml"
    values = {"head": lab.address(HEAD), "worker": lab.address(WORKER), "key": lab.key, "known_hosts": lab.known_hosts}
    path.write_text(CLUSTER_YAML.format(user=user, **values))
    return load(path)


@pytest.fixture(scope="module")
def site(make_lab: Callable[[str, int, int], Lab]) -> Iterator[Site]:
    lab = make_lab("host", 20, 2)
    (CACHE / "store").mkdir(exist_ok=True)  # packages are fetched once for all labs
    (lab.dir / ".cluster-ai").mkdir(exist_ok=True)
    if not (lab.dir / ".cluster-ai" / "store").exists():
        (lab.dir / ".cluster-ai" / "store").symlink_to(CACHE / "store")
    lab.run_on(WORKER, "nft add table inet mine")
    config = write(lab, "root")
    dry = run(config, lambda event: None, check=True)
    assert not dry.failed, dry.failed  # a fresh host can be asked what would change
    events: list[TaskEvent] = []
    first = run(config, events.append)
    assert not first.failed, first.failed
    yield Site(lab, config, first, tuple(events))
    lab("down")


def test_the_first_run_changes_both_hosts_and_tells_of_each_task_as_it_begins_and_ends(site: Site) -> None:
    assert set(site.first.changed) == {site.lab.address(HEAD), "h2"}
    told = {(event.role, event.task, event.status) for event in site.events if event.host == "h2"}
    assert ("controller", "See which packages it has", "running") in told
    assert ("base", "Install packages", "running") in told
    assert ("base", "Install packages", "changed") in told


def test_the_second_run_changes_nothing(site: Site) -> None:
    again = site.converge()
    assert again == AnsibleResult()


def test_check_mode_finds_nothing_to_change(site: Site) -> None:
    assert site.converge(check=True) == AnsibleResult()


def test_each_host_bears_its_stamp(site: Site) -> None:
    for lab_name, host in ((HEAD, site.lab.address(HEAD)), (WORKER, "h2")):
        assert site.lab.run_on(lab_name, f"cat {layout.HOST_STAMP}").strip() == stamps(site.config)[host]


def test_users_and_directories_are_as_the_layout_says(site: Site) -> None:
    for user in layout.USERS:
        assert site.lab.run_on(WORKER, f"id -Gn {user}").split()[:1] == [user]
        assert "cluster-ai" in site.lab.run_on(WORKER, f"id -Gn {user}").split()
    assert site.lab.run_on(WORKER, f"stat -c '%a %U' {layout.CREDENTIALS}").split() == ["700", "root"]
    for path in (layout.PARTS, layout.RELEASES, layout.LIBEXEC, layout.BLOBS):
        assert site.lab.run_on(WORKER, f"stat -c '%a %U' {path}").split() == ["755", "root"]


@pytest.mark.parametrize(("host", "program"), [(HEAD, "prometheus"), (WORKER, "nginx")])
def test_the_program_is_there_and_its_own_unit_never_runs(site: Site, host: str, program: str) -> None:
    assert site.lab.run_on(host, f"command -v {program}").strip()
    assert site.lab.run_on(host, f"systemctl is-enabled {program}", check=False).strip() == "masked"
    assert site.lab.run_on(host, f"journalctl -u {program} -o cat -q", check=False).strip() == ""


def test_packages_stay_off_hosts_that_need_them_not(site: Site) -> None:
    assert site.lab.run_on(WORKER, "command -v prometheus", check=False) == ""
    assert site.lab.run_on(HEAD, "command -v nginx", check=False) == ""


def test_node_exporter_answers_the_head_with_a_certificate_and_nobody_else(site: Site) -> None:
    """It waits for the certificate, which a release brings."""
    address = site.lab.address(WORKER)
    authority = ca.create("test")
    for host, name, role in ((WORKER, address, "worker"), (HEAD, site.lab.address(HEAD), "head")):
        pair = ca.issue(authority, name, [name], role)
        files = {layout.CA_CERT: authority.cert, layout.CERT: pair.cert, layout.KEY: pair.key}
        place = layout.TLS if host == WORKER else PurePosixPath("/root/tls")
        write_them = "".join(f"cat >{place}/{it} <<'PEM'\n{text.decode()}PEM\n" for it, text in files.items())
        site.lab.run_on(host, f"mkdir -p {place}\n{write_them}chgrp -R cluster-ai {place}")
    ask = f"curl -sS --max-time 10 --cacert /root/tls/ca.pem https://{address}:9100/metrics"
    shown = "--cert /root/tls/cert.pem --key /root/tls/key.pem"
    told = site.lab.run_on(HEAD, f"for i in $(seq 60); do {ask} {shown} 2>/dev/null && break; sleep 1; done")
    assert "node_cpu_seconds_total" in told
    assert site.lab.run_on(HEAD, ask, check=False) == ""
    assert site.lab.run_on(HEAD, f"{ask} {shown} --tls-max 1.2", check=False) == ""
    refused = subprocess.run(
        ["curl", "-s", "--max-time", "3", f"https://{address}:9100/metrics"], capture_output=True, check=False
    )
    assert refused.returncode == 28  # no answer: dropped


def test_a_host_without_a_card_is_left_alone_by_the_driver_role(site: Site) -> None:
    assert {event.status for event in site.events if event.role == "nvidia_driver"} <= {"running", "ok", "skipped"}
    assert site.lab.run_on(WORKER, "ls /etc/modprobe.d /etc/apt/sources.list.d", check=False).count("nvidia") == 0
    assert site.lab.run_on(WORKER, "dpkg --get-selections | grep -c hold", check=False).strip() == "0"


def test_rules_of_others_stay_and_ours_come_back_after_a_reboot_and_after_a_flush(site: Site) -> None:
    assert "table inet mine" in site.lab.run_on(WORKER, "nft list tables")
    site.lab.run_on(WORKER, "systemctl enable --now nftables.service && systemctl restart nftables.service")
    until(lambda: "table inet cluster_ai" in site.lab.run_on(WORKER, "nft list tables"))  # with it, but after it
    site.lab("reboot", WORKER)
    site.lab.run_on(WORKER, "systemctl is-system-running --wait", check=False)
    assert "policy drop" in site.lab.run_on(WORKER, "nft list table inet cluster_ai")
    assert ssh_works(site.config, site.lab.address(WORKER))
    site.lab.run_on(WORKER, "systemctl disable nftables.service")


def test_rules_that_would_lock_ssh_out_take_themselves_back(site: Site, tmp_path: Path) -> None:
    variables = {"firewall__ssh": [2222], "firewall_undo_after": 15}
    done = playbook(site, tmp_path, variables)
    assert done.returncode != 0
    site.lab.run_on(
        WORKER, "for i in $(seq 3000); do nft list tables | grep -q cluster_ai || exit 0; sleep 0.1; done; exit 1"
    )
    assert ssh_works(site.config, site.lab.address(WORKER))
    assert site.converge().failed == {}
    assert "policy drop" in site.lab.run_on(WORKER, "nft list table inet cluster_ai")


def test_people_can_run_the_playbook_by_hand(site: Site) -> None:
    env = {**os.environ, "CLUSTER_AI_CONFIG": str(site.config.path), "ANSIBLE_FORCE_COLOR": "0"}
    command = [program("ansible-playbook"), "-i", "inventory/hosts.py", "playbooks/site.yml"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("changed=0") == 2


def test_an_unsupported_distribution_is_refused_by_name_and_the_other_host_goes_on(site: Site) -> None:
    for packages in (Packages("bundle", None), Packages("distribution", None)):
        with fedora(site.lab, WORKER):
            result = site.converge(dataclasses.replace(site.config, packages=packages))
        error = result.failed["h2"]
        assert isinstance(error, HostError)
        assert "h2: " in str(error)
        assert "fedora 40 is not supported" in str(error).lower()
        assert "Debian 12" in error.remedy
        assert list(result.failed) == ["h2"]


def test_a_wrong_or_missing_sudo_password_is_said_and_the_right_one_works(site: Site) -> None:
    config = write(site.lab, "deploy")
    with sudo_password(site.lab, WORKER, "it's {{ right }}"):
        wrong = site.converge(config, hosts=["h2"], sudo_password="wrong").failed["h2"]
        none = site.converge(config, hosts=["h2"]).failed["h2"]
        right = site.converge(config, hosts=["h2"], sudo_password="it's {{ right }}")
    assert isinstance(wrong, HostError)
    assert "refuses the password" in wrong.what
    assert isinstance(none, HostError)
    assert "asks for a password" in none.what
    assert right == AnsibleResult()


@pytest.mark.parametrize("source", ["bundle", "distribution"])
def test_a_refused_key_and_a_host_that_is_down_are_said(site: Site, tmp_path: Path, source: str) -> None:
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    config = dataclasses.replace(site.config, packages=Packages(source, None))  # type: ignore[arg-type]
    stranger = dataclasses.replace(config, ssh=dataclasses.replace(config.ssh, key=key))
    refused = site.converge(stranger, hosts=["h2"]).failed["h2"]
    assert isinstance(refused, HostError)
    assert "refuses our SSH key" in refused.what
    site.lab("kill", WORKER)
    try:
        down = site.converge(config)
    finally:
        site.lab("start", WORKER)
    assert list(down.failed) == ["h2"]
    assert isinstance(down.failed["h2"], HostError)
    assert down.failed["h2"].remedy


def ssh_works(config: Config, address: str) -> bool:
    argv = [*ssh_argv(config.ssh, address, persist=False), "true"]
    return subprocess.run(argv, check=False, timeout=120).returncode == 0


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def playbook(site: Site, folder: Path, variables: dict[str, object]) -> subprocess.CompletedProcess[str]:
    """Ansible's own command, with variables that only a test would give."""
    inventory, extra = folder / "inventory.json", folder / "extra.json"
    inventory.write_text(json.dumps(for_ansible(site.config)))
    extra.write_text(json.dumps(variables))
    command = [program("ansible-playbook"), "-i", str(inventory), "-e", f"@{extra}", "-l", "h2", "playbooks/site.yml"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def fedora(lab: Lab, host: str) -> Iterator[None]:
    text = 'NAME=Fedora\\nID=fedora\\nVERSION_ID=40\\nPRETTY_NAME="Fedora 40"\\n'
    lab.run_on(host, f"mv /etc/os-release /etc/os-release.kept; printf '{text}' > /etc/os-release")
    try:
        yield
    finally:
        lab.run_on(host, "mv /etc/os-release.kept /etc/os-release")


@contextlib.contextmanager
def sudo_password(lab: Lab, host: str, password: str) -> Iterator[None]:
    """From now on, `deploy` needs a password for sudo there."""
    quoted = password.replace("'", "'\\''")
    lab.run_on(host, f"printf 'deploy:%s' '{quoted}' | chpasswd; echo 'deploy ALL=(ALL) ALL' > /etc/sudoers.d/deploy")
    try:
        yield
    finally:
        lab.run_on(host, "echo 'deploy ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/deploy; passwd -q -l deploy")
