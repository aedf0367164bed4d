"""What a search finds, as it goes on and in the end: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from cluster_ai.discovery.flow import Judged
    from cluster_ai.discovery.merging import Machine, Sighting
    from cluster_ai.discovery.validate import Checked
    from cluster_ai.rollout.doctor import Finding

MARKS = {"ok": ("ok  ", "32"), "warn": ("warn", "33"), "fail": ("FAIL", "31")}
NAMES = {"beacon": "beacon", "mdns": "mDNS", "ssdp": "SSDP", "scan": "scan"}


@contextmanager
def watching(machines: Callable[[], list[Machine]]) -> Iterator[Callable[[Sighting], None]]:
    """Yields what is to be told of each sighting. machines: all that were seen so far, put together."""
    if not sys.stderr.isatty():
        yield lambda it: print(f"{it.address}: {NAMES[it.way]} {it.name or it.software}".rstrip(), file=sys.stderr)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(_table([]), console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
        yield lambda _: live.update(_table(machines()))


def _table(machines: Sequence[Machine]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("address", "name", "system", "found by", "SSH", title="looking ...", title_justify="left")
    for machine in machines[:40]:
        cells = (machine.address, machine.name, machine.system, _ways(machine), machine.software)
        table.add_row(*(Text(cell) for cell in cells))  # never as markup: strangers chose these words
    return table


def _ways(machine: Machine) -> str:
    return ", ".join(NAMES[way] for way in machine.ways)


def show(judged: Judged, checked: Checked | None, wrong: Finding | None) -> None:
    """One machine, with all that is to be said of it."""
    machine = judged.machine
    facts = [machine.name, machine.system, f"by {_ways(machine)}", machine.mac]
    print(f"{machine.address}  " + ", ".join(fact for fact in facts if fact))
    if others := machine.addresses[1:]:
        print(f"  also {', '.join(others)}")
    if told := machine.announcement:
        gpus = f", {', '.join(told.gpus)}" if told.gpus else ""
        print(f"  says: {told.arch}, {told.cores} cores, {told.memory / 1e9:.1f} GB{gpus}")
    if machine.key:
        print(f"  {machine.key.kind} {machine.key.fingerprint}")
    print(f"  {judged.trust.what}")
    if judged.trust.remedy:
        print(f"        -> {judged.trust.remedy}")
    for finding in ([wrong] if wrong else []) + list(checked.findings if checked else ()):
        mark, code = MARKS[finding.level]
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        print(f"  {f'{chr(27)}[{code}m{mark}{chr(27)}[0m' if colour else mark}  {finding.what}")
        if finding.remedy:
            print(f"        -> {finding.remedy}")
    if checked and checked.measured and checked.measured.memory and checked.measured.disk:
        it = checked.measured
        print(f"  memory moves {it.memory / 1e9:.1f} GB/s, its disk takes {it.disk / 1e6:.0f} MB/s")  # type: ignore[operator]


def as_data(judged: Judged, checked: Checked | None, wrong: Finding | None, outcome: str) -> dict[str, Any]:
    machine, told = judged.machine, judged.machine.announcement
    findings = ([wrong] if wrong else []) + list(checked.findings if checked else ())
    return {
        "addresses": machine.addresses,
        "found_by": machine.ways,
        "name": machine.name,
        "system": machine.system,
        "software": machine.software,
        "mac": machine.mac,
        "gpus": told.gpus if told else (),
        "host_key": machine.key.fingerprint if machine.key else None,
        "standing": judged.trust.standing,
        "what": judged.trust.what,
        "remedy": judged.trust.remedy,
        "worker": checked.name if checked else None,
        "findings": [asdict(finding) for finding in findings],
        "resources": asdict(checked.resources) if checked and checked.resources else None,
        "measured": asdict(checked.measured) if checked and checked.measured else None,
        "outcome": outcome,
    }
