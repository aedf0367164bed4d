"""What a host says of itself in one round trip: the script that asks, and the pure reading of its answer."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from cluster_ai import layout
from cluster_ai.errors import HostError
from cluster_ai.rollout.credentials import ON_HEAD

_BEGIN, _END = "cluster-ai-probe=1", "cluster-ai-probe=end"
OURS = frozenset(
    (
        layout.TARGET,
        *layout.HEAD_UNITS,
        *layout.WORKER_UNITS,
        *(layout.VERIFY, layout.VERIFY_TIMER, layout.RENEW, layout.RENEW_TIMER),
    )
)  # units of releases; the host layer has some, too
MANY = 20  # changed files that are told one by one
_SUMMED = " ".join(
    str(folder / name)
    for folder, names in (
        (layout.TLS, (layout.CA_CERT, layout.HOSTS)),
        (layout.CREDENTIALS, ON_HEAD),
    )
    for name in names
)
_PACKAGES = r"\( -path './lib/*' -o -path './open-webui/*' \)"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SUM = re.compile(r"([0-9a-f]{64}) [ *](/[a-z./-]+)")
# `df -Pk`: name, blocks, used, available, share, where it is
_SPACE = re.compile(r"\S+ +\d+ +\d+ +(\d{1,18}) +\d+% /.*", re.ASCII)
# `systemctl list-units`: unit, load state, active, sub, description; a mark before it where it failed
_UNIT = re.compile(r"[●* ]*(cluster-ai\S*) +(\S+) +(\S+) +(\S+)( .*)?")

# Only what a minimal Debian has. What is missing is an empty value, or no line at all. Each program and each subshell
# that it starts, and each line that it reads itself (by single characters), costs every host a millisecond in a run
# with nothing to do: so there are few, and what has a form of its own is known by that.
# A release is complete when its units.txt is written, so what in it is newer was changed by somebody since. (A change
# that hides its time, or in one of the thousands of files of packages, which a slow disk has to look up each, is found
# by `verify`, which reads every file, and notes in a file what there is to put right.)
SCRIPT = f"""
echo {_BEGIN}
{{
if [ -r /etc/os-release ]; then . /etc/os-release; fi
echo "os_id=$ID"; echo "os_version=$VERSION_ID"
echo "python=$(python3 -V)"
echo "arch=$(uname -m)"
date +clock=%s
find {layout.CURRENT} {layout.PREVIOUS} {layout.PARTS} {layout.RELEASES} {layout.BLOBS} -maxdepth 1 -printf '%p=%l\\n'
while read -r line; do echo "newer=$line"; done <{layout.DRIFT}
while read -r line; do echo "switch_$line"; done <{layout.STATE}/pending
cd {layout.CURRENT} && find . -mindepth 1 {_PACKAGES} -prune -o -newer units.txt -printf 'newer=%P\\n'
stamp=; read -r stamp <{layout.HOST_STAMP}; echo "stamp=$stamp"
cat {layout.TLS}/{layout.CERT}
sha256sum {_SUMMED}
df -Pk / {layout.ROOT}
systemctl list-units --all --plain --no-legend --no-pager 'cluster-ai*'
}} 2>/dev/null
echo {_END}
"""


@dataclass(frozen=True, slots=True)
class UnitState:
    active: str  # active, inactive, failed, activating, ...
    sub: str  # running, listening, dead, auto-restart, ...

    @property
    def up(self) -> bool:
        return self.active == "active"


@dataclass(frozen=True, slots=True)
class Observed:
    """A host as it is."""

    host: str
    os_id: str
    os_version: str
    python: str | None  # "3.11"; None: there is no python3
    arch: str
    clock: int  # seconds since 1970, by its own clock
    current: str | None  # digests of releases; while a switch is under way, what was confirmed before it
    previous: str | None
    switching: str | None  # what a switch that is under way brings
    stamp: str | None  # of the host layer
    releases: frozenset[str]
    parts: frozenset[str]
    blobs: frozenset[str]
    certificate: bytes | None  # DER
    sums: Mapping[str, str]  # SHA-256 of credentials
    units: Mapping[str, UnitState]  # those that systemd knows there
    newer: tuple[str, ...]  # what of the current release, mostly files, was changed since it was made
    free: int | None  # bytes on the file system of layout.ROOT

    @property
    def distribution(self) -> str:
        """As cluster_ai.release.HostFacts and the host layer's stamp have it: "debian-12"."""
        return f"{self.os_id}-{self.os_version}" if self.os_version else self.os_id


def parse(host: str, text: str) -> Observed:
    """Read the script's answer. What a login shell says before or after it is skipped."""
    lines = text.splitlines()
    try:
        begin = lines.index(_BEGIN)
        end = lines.index(_END, begin)
    except ValueError:
        raise HostError(
            "answered something else than was asked",
            where=host,
            remedy=f"see what a plain command prints there: ssh {host} true",
        ) from None
    told = lines[begin + 1 : end]
    pairs = [(key, value.strip()) for key, mark, value in (ln.partition("=") for ln in told) if mark]
    values = dict(pairs)

    def matched(pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        return (found for found in map(pattern.fullmatch, told) if found)

    def below(folder: PurePath) -> frozenset[str]:
        names = (key.removeprefix(f"{folder}/") for key in values if key.startswith(f"{folder}/"))
        return frozenset(name for name in names if _DIGEST.fullmatch(name))

    return Observed(
        host=host,
        os_id=values.get("os_id", ""),
        os_version=values.get("os_version", ""),
        python=_python(values.get("python", "")),
        arch=values.get("arch", ""),
        clock=_number(values.get("clock", "")) or 0,
        # Unconfirmed, a release is gone again within a minute: it isn't what the host runs, whatever the link says.
        current=_digest(values.get("switch_confirmed" if "switch_wanted" in values else str(layout.CURRENT), "")),
        previous=_digest(values.get(str(layout.PREVIOUS), "")),
        switching=_digest(values.get("switch_wanted", "")),
        stamp=values.get("stamp") or None,
        releases=below(layout.RELEASES),
        parts=below(layout.PARTS),
        blobs=below(layout.BLOBS),
        certificate=_der(told),
        sums={_named(found[2]): found[1] for found in matched(_SUM)},
        units=_units(matched(_UNIT)),
        newer=tuple(dict.fromkeys(value for key, value in pairs if key == "newer"))[:MANY],
        free=next((int(found[1]) * 1024 for found in reversed([*matched(_SPACE)])), None),
    )


def _named(path: str) -> str:
    """A credential's name among all of them: of those for TLS, with the folder."""
    folder, _, name = path.rpartition("/")
    return f"{layout.IN_TLS}{name}" if folder == str(layout.TLS) else name


def _python(text: str) -> str | None:
    found = re.fullmatch(r"Python (\d+\.\d+)\..*", text)
    return found[1] if found else None


def _digest(link: str) -> str | None:
    """The release that a link leads to."""
    name = link.rstrip("/").rpartition("/")[2]
    return name if _DIGEST.fullmatch(name) else None


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _der(lines: Iterable[str]) -> bytes | None:
    """The first certificate of a PEM file."""
    body = re.search(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", "".join(lines))
    try:
        return base64.b64decode(body[1], validate=True) if body else None
    except (binascii.Error, ValueError):
        return None


def _units(told: Iterable[re.Match[str]]) -> dict[str, UnitState]:
    """As _UNIT reads `systemctl list-units`.

    An instance is told by its template's name; of several instances the one that is up counts. What a timer starts is
    left out, since it says nothing that it isn't active.
    """
    found: dict[str, UnitState] = {}
    for it in told:
        if it[2] in ("not-found", "error"):
            continue
        name = re.sub(r"@.*(?=\.)", "@", it[1])
        state = UnitState(it[3], it[4])
        if name in OURS and (name not in found or state.up):
            found[name] = state
    started = layout.triggered(found)
    return {name: state for name, state in found.items() if name not in started}
