"""What a machine is, asked by SSH with the cluster's own keys, and whether it can be a worker."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cluster_ai.config.model import Config, Host, Resources, Ssh, Worker, hosts
from cluster_ai.discovery import bench
from cluster_ai.discovery.merging import Machine
from cluster_ai.discovery.packets import name_in
from cluster_ai.errors import HostError
from cluster_ai.inventory import known_hosts
from cluster_ai.inventory.known_hosts import HostKey
from cluster_ai.inventory.ssh import ssh_argv
from cluster_ai.provision import ssh
from cluster_ai.provision.refusals import Reply
from cluster_ai.rollout import doctor, observe
from cluster_ai.rollout.doctor import Finding

SCRIPT = doctor.SCRIPT + (
    """
echo "hostname=$(hostname)"
"""
)
UNIFIED = 0.75  # of memory that cards share with the host: theirs. Models may take 80 % of the rest, which leaves 5 %
SLOW, FAR = 12.5e6, 0.02  # bytes a second; seconds: below, and above, a worker is told to be badly connected


@dataclass(frozen=True, slots=True)
class Checked:
    """A machine that was logged in to, or refused us."""

    machine: Machine
    name: str  # for cluster.yaml
    findings: tuple[Finding, ...]
    resources: Resources | None = None
    measured: bench.Measured | None = None

    @property
    def fit(self) -> bool:
        return self.resources is not None and all(finding.level != "fail" for finding in self.findings)


def check(
    config: Config, machines: Sequence[Machine], *, sudo_password: str | None = None, measure: bool = True
) -> list[Checked]:
    """Log in to machines whose host keys are vouched for; nothing but these keys is believed meanwhile."""
    with _believing(config.ssh, [machine.key for machine in machines if machine.key]) as believed:
        argv = {machine.address: tuple(ssh_argv(believed, machine.address, persist=False)) for machine in machines}
        now = time.time()
        replies = ssh.run(ssh.calls(argv, SCRIPT), sudo_password=sudo_password)
        taken = {host.name for host in hosts(config)}
        found = []
        for machine in machines:
            checked = _checked(config, machine, replies[machine.address], taken, now)
            taken.add(checked.name)
            if checked.fit and measure:
                checked = _measured(config, checked, argv[machine.address], sudo_password)
            found.append(checked)
        return found


def _checked(config: Config, machine: Machine, reply: Reply | HostError, taken: Iterable[str], now: float) -> Checked:
    try:
        if isinstance(reply, HostError):
            raise reply
        seen, system = observe.parse(machine.address, reply.text), doctor.parse(reply.text)
    except HostError as error:
        name = free_name(name_in(machine.name) or machine.address, taken)
        return Checked(machine, name, (Finding("fail", error.what, error.remedy),))
    said = dict(line.split("=", 1) for line in reply.text.splitlines() if "=" in line)
    name = free_name(name_in(said.get("hostname", "")) or machine.address, taken)
    resources = resources_of(system)
    host = Host(name, machine.address, frozenset({"worker"}), Worker(name, machine.address, resources, {}))
    found = list(doctor.findings(config, host, seen, system, now))
    if seen.current is not None:
        what = "carries a release, of another cluster or of this one before"
        found.append(Finding("warn", what, "cluster-ai apply replaces it"))
    if machine.address.startswith("fe80"):
        found.append(Finding("fail", "has no address but a link-local one", "give it one, by DHCP or by hand"))
    return Checked(machine, name, tuple(found), resources)


def resources_of(system: doctor.Machine) -> Resources:
    """What cluster.yaml says of such a machine: rounded down, so that what is measured never is less."""
    shared = int(system.memory * UNIFIED) if system.unified else 0
    memory, gpu_memory = _rounded(system.memory - shared), _rounded(system.card_memory + shared)
    return Resources(
        max(system.cores, 1), max(memory, 10**8), system.cards, (gpu_memory or None) if system.cards else None
    )


def _rounded(size: int) -> int:
    return size - size % 10**8


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """The name, with a number where another has it."""
    names = set(taken)
    return next(name for name in (wanted, *(f"{wanted}-{number}" for number in range(2, 10_000))) if name not in names)


def _measured(config: Config, checked: Checked, argv: tuple[str, ...], sudo_password: str | None) -> Checked:
    measured = bench.host(checked.machine.address, argv, sudo_password)
    head = hosts(config)[0]
    if head.address not in checked.machine.addresses:
        on_head = tuple(ssh_argv(config.ssh, head.address))
        link = bench.link(
            checked.machine.address, argv, on_head, secrets.token_hex(16), port=40000 + secrets.randbelow(10000)
        )
        measured = replace(measured, latency=link[0], bandwidth=link[1]) if link else measured
    return replace(checked, measured=measured, findings=(*checked.findings, *connection(measured)))


def connection(measured: bench.Measured) -> Iterable[Finding]:
    """What the measured way from the head is worth."""
    if measured.latency is None or measured.bandwidth is None:
        return [Finding("warn", "the way from the head host was not measured", "the head is not up, or can't reach it")]
    text = f"{measured.bandwidth / 1e6:.0f} MB/s and {measured.latency * 1000:.1f} ms from the head host"
    if measured.bandwidth < SLOW or measured.latency > FAR:
        return [Finding("warn", text, "answers and models come slowly over such a link: see the cable and the switch")]
    return [Finding("ok", text)]


@contextmanager
def _believing(ssh_config: Ssh, keys: Sequence[HostKey]) -> Iterator[Ssh]:
    """How to reach machines, with their keys alone in known_hosts."""
    with tempfile.TemporaryDirectory(prefix="cluster-ai-") as folder:
        file = Path(folder) / known_hosts.FILE
        known_hosts.pin(file, keys)
        yield replace(ssh_config, known_hosts=file)
