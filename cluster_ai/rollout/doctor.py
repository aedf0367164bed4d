"""What keeps a host from being part of the cluster, found from its answers; pure, but for the script that asks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from cluster_ai import layout
from cluster_ai.config.model import Config, Host
from cluster_ai.errors import HostError
from cluster_ai.placement.need import budget
from cluster_ai.release.ports import ports
from cluster_ai.rollout import observe
from cluster_ai.rollout.observe import Observed
from cluster_ai.rollout.survey import usable
from cluster_ai.sizes import counted
from cluster_ai.tls.validity import validity

SKEW_WARN, SKEW_FAIL = 5, 120  # seconds; certificates are valid from five minutes before they are issued
ROOM = 5 * 10**9  # bytes that two releases of a worker take
SCRIPT = observe.SCRIPT + (
    """
echo "cores=$(nproc)"
echo "memory=$(awk '/^MemTotal:/ {print $2}' /proc/meminfo)"
cards=0; for d in /sys/bus/pci/devices/*; do
[ "$(cat $d/vendor 2>/dev/null)" = 0x10de ] && case "$(cat $d/class)" in 0x0300*|0x0302*) cards=$((cards+1));; esac
done
echo "cards=$cards"
echo "driver=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')"
nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null |
awk '/N\\/A|Not Supported/ {u++} {s+=$1} END {print "vram=" s+0; print "unified=" u+0}'
echo "synchronized=$(timedatectl show -p NTPSynchronized --value 2>/dev/null)"
ss -Hltnp 2>/dev/null | sed 's/^/listen=/'
"""
)


@dataclass(frozen=True, slots=True)
class Finding:
    level: Literal["ok", "warn", "fail"]
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a host is, beyond what a probe asks."""

    cores: int
    memory: int  # bytes
    cards: int  # NVIDIA's, on the PCI bus or, as Jetson's, known to the driver alone
    driver: int  # cards that the driver shows
    synchronized: bool | None  # the clock; None: not known
    listeners: Mapping[int, str]  # port -> program
    card_memory: int = 0  # bytes that cards have of their own, as the driver says
    unified: int = 0  # cards that have none: they share the host's


def parse(text: str) -> Machine:
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def number(key: str) -> int:
        text = values.get(key, "").strip()
        return int(text) if text.isdecimal() else 0

    listeners = {}
    for line in text.splitlines():
        if line.startswith("listen="):
            words = line.split()
            port = words[3].rpartition(":")[2] if len(words) > 3 else ""
            program = re.search(r'users:\(\("([^"]*)"', line)
            if port.isdecimal():
                listeners[int(port)] = program[1] if program else "an unknown program"
    synchronized = {"yes": True, "no": False}.get(values.get("synchronized", ""))
    memory = number("memory") * 1024
    driver = number("driver")
    cards, card_memory = max(number("cards"), driver), number("vram") * 2**20
    return Machine(
        number("cores"), memory, cards, driver, synchronized, listeners, card_memory, min(number("unified"), driver)
    )


def findings(config: Config, host: Host, seen: Observed, machine: Machine, now: float) -> list[Finding]:
    """All that can be said of one host, good and bad."""
    found = [Finding("ok", "answers by SSH, and lets us become root"), _system(seen), _room(seen)]
    found += _clock(seen, machine, now)
    if host.worker is not None:
        found += _resources(host, machine)
    found += _ports(config, host, seen, machine)
    found += _running(seen, now)
    return found


def _system(seen: Observed) -> Finding:
    verdict = usable(seen)
    if isinstance(verdict, HostError):
        return Finding("fail", verdict.what, verdict.remedy)
    return Finding("ok", f"{seen.distribution}, Python {seen.python}, {seen.arch}")


def _room(seen: Observed) -> Finding:
    if seen.free is None:
        return Finding("warn", "its free disk space is not known", "on it: df -h /opt")
    text = f"{seen.free / 1e9:.1f} GB are free at {layout.ROOT}"
    if seen.free < ROOM:
        return Finding("fail", text, f"make room: releases take up to {ROOM / 1e9:.0f} GB, and models their own size")
    return Finding("ok", text)


def _clock(seen: Observed, machine: Machine, now: float) -> Iterator[Finding]:
    skew = abs(seen.clock - now)
    ntp = "cluster-ai apply sets up a time service; see that UDP port 123 gets out, or that a local server is named"
    if skew > SKEW_FAIL:
        yield Finding("fail", f"its clock differs from ours by {skew:.0f} s: certificates may not be valid there", ntp)
    elif skew > SKEW_WARN:
        yield Finding("warn", f"its clock differs from ours by {skew:.0f} s", ntp)
    else:
        yield Finding("ok", "its clock agrees with ours")
    if machine.synchronized is False:
        yield Finding("warn", "its clock is not synchronized", ntp)


def _resources(host: Host, machine: Machine) -> Iterator[Finding]:
    assert host.worker
    said = host.worker.resources
    edit = f"correct resources of {host.name} in cluster.yaml"
    if said.cpu > machine.cores:
        yield Finding("warn", f"has {machine.cores} cores; cluster.yaml says {said.cpu}", edit)
    else:
        yield Finding("ok", f"has {machine.cores} cores")
    if said.memory > machine.memory * 1.02:  # what firmware keeps is no lie
        has = f"has {machine.memory / 1e9:.1f} GB of memory; cluster.yaml says {said.memory / 1e9:.1f}"
        yield Finding("fail", has, edit)
    else:
        yield Finding("ok", f"has {machine.memory / 1e9:.1f} GB of memory")
    if said.gpu > machine.cards:
        yield Finding("fail", f"has {counted(machine.cards, 'NVIDIA card')}; cluster.yaml says {said.gpu}", edit)
    elif machine.cards > said.gpu:
        yield Finding("warn", f"has {counted(machine.cards, 'NVIDIA card')}; cluster.yaml uses {said.gpu}", edit)
    elif machine.cards:
        yield Finding("ok", f"has {counted(machine.cards, 'NVIDIA card')}")
    if said.gpu and machine.driver < min(said.gpu, machine.cards):
        yield Finding(
            "fail",
            f"the NVIDIA driver shows {machine.driver} of {counted(machine.cards, 'card')}",
            "cluster-ai apply --converge installs it; a new driver needs a reboot (docs/host-layer.md)",
        )
    given = said.memory + budget(said).gpu
    if said.gpu and machine.unified and given > machine.memory * 1.02:
        yield Finding(
            "warn",
            f"its cards share its {machine.memory / 1e9:.1f} GB of memory; cluster.yaml gives out {given / 1e9:.1f}",
            f"divide it between memory and gpu_memory of {host.name} (docs/configuration.md, Where models go)",
        )


def _ports(config: Config, host: Host, seen: Observed, machine: Machine) -> Iterator[Finding]:
    taken = []
    for port, unit in ports(config, host).items():
        state = seen.units.get(unit)
        if port in machine.listeners and not (state and state.up):
            taken.append(f"{port} by {machine.listeners[port]}, wanted by {unit}")
    if taken:
        advice = "stop and disable that program there, or choose another port in cluster.yaml"
        yield from (Finding("fail", f"a port is taken: {text}", advice) for text in taken)
    else:
        yield Finding("ok", "the ports that it needs are free, or ours")


def _running(seen: Observed, now: float) -> Iterator[Finding]:
    if seen.current is None:
        yield Finding("ok", "carries no release yet")
        return
    down = [unit for unit, state in seen.units.items() if not state.up]
    for unit in down:
        log = unit.replace("@.", "@*.")  # of a template, all instances
        remedy = f"on it: journalctl -u '{log}'; then cluster-ai apply"
        yield Finding("fail", f"{unit} is {seen.units[unit].active}", remedy)
    if not down:
        yield Finding("ok", f"{counted(len(seen.units), 'unit')} of ours active")
    try:
        if seen.certificate and validity(seen.certificate).end < now:
            yield Finding("fail", "its certificate has expired", "cluster-ai apply renews it")
    except ValueError:
        yield Finding("fail", "its certificate can't be read", "cluster-ai apply renews it")
