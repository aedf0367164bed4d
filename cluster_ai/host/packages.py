"""Debian packages: are those there that the host layer installed, in the version that it left?"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from cluster_ai import layout
from cluster_ai.host.faults import Fault


def faults(record: Path = Path(layout.PACKAGES)) -> list[Fault]:
    """Nothing where it is not known what was installed."""
    try:
        wanted = read(record.read_text())
    except FileNotFoundError:
        return []
    return list(compare(wanted, installed(tuple(wanted)))) if wanted else []


def read(text: str) -> dict[str, str]:
    """A name and a version a line."""
    return {words[0]: words[1] for words in map(str.split, text.splitlines()) if len(words) == 2}


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """Of these packages, those that are installed, with their versions. dpkg-query fails where it doesn't know one."""
    form = "${db:Status-Status} ${Package} ${Version}\n"
    command = ["dpkg-query", "--show", f"--showformat={form}", "--", *names]
    said = subprocess.run(command, text=True, capture_output=True, timeout=60).stdout
    words = [line.split() for line in said.splitlines()]
    return {found[1]: found[2] for found in words if len(found) == 3 and found[0] == "installed"}


def compare(wanted: Mapping[str, str], there: Mapping[str, str]) -> Iterator[Fault]:
    for name, version in wanted.items():
        if name not in there:
            yield Fault("packages", name, "is not installed", "host layer")
        elif there[name] != version:
            yield Fault("packages", name, f"is {there[name]}, was {version} when the host layer ran", "host layer")
