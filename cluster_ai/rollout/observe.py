"""What a host says of itself in one round trip: the script that asks, and the pure reading of its answer."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cluster_ai import layout
from cluster_ai.errors import HostError

UNITS = (layout.TARGET, *layout.HEAD_UNITS, *layout.WORKER_UNITS)
_BEGIN, _END = "cluster-ai-probe=1", "cluster-ai-probe=end"
MANY = 20  # changed files that are told one by one
_DIGEST = re.compile(r"[0-9a-f]{64}")

# Only what a minimal Debian has. Values are on one line each; what is missing is an empty value, or no line at all.
# A release is complete when its units.txt is written, so what in it is newer was changed by somebody since. (A change
# that hides its time is found by `verify`, which reads every file.)
SCRIPT = f"""
echo {_BEGIN}
( . /etc/os-release; echo "os_id=$ID"; echo "os_version=$VERSION_ID"; echo "os_like=$ID_LIKE" ) 2>/dev/null
echo "python=$(python3 -V 2>/dev/null)"
echo "arch=$(uname -m)"
echo "clock=$(date +%s)"
for link in current previous; do echo "$link=$(readlink {layout.ROOT}/$link 2>/dev/null)"; done
cd {layout.CURRENT} 2>/dev/null && find . -mindepth 1 -newer units.txt | head -n {MANY} | sed 's/^/newer=/'
echo "stamp=$(cat {layout.HOST_STAMP} 2>/dev/null)"
for dir in {layout.PARTS} {layout.RELEASES} {layout.BLOBS}; do
echo "${{dir##*/}}=$(ls $dir 2>/dev/null | tr '\\n' ' ')"
done
cd {layout.CREDENTIALS} 2>/dev/null && {{
echo "certificate=$(base64 -w0 {layout.CERT} 2>/dev/null)"
sha256sum {layout.CA_CERT} {layout.GATEWAY_TOKEN} 2>/dev/null | while read sum name; do echo "sum_$name=$sum"; done
}}
df -Pk {layout.ROOT} 2>/dev/null | tail -n 1 | grep -q . || ROOT_IS=/
echo "free=$(df -Pk ${{ROOT_IS:-{layout.ROOT}}} 2>/dev/null | tail -n 1)"
systemctl show -p Id,LoadState,ActiveState,SubState,NRestarts {" ".join(UNITS)} 2>/dev/null | sed 's/^/unit./'
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
    current: str | None  # digests of releases
    previous: str | None
    stamp: str | None  # of the host layer
    releases: frozenset[str]
    parts: frozenset[str]
    blobs: frozenset[str]
    certificate: bytes | None  # DER
    sums: Mapping[str, str]  # SHA-256 of files in layout.CREDENTIALS
    units: Mapping[str, UnitState]  # those that systemd knows there
    newer: tuple[str, ...]  # files and folders of the current release that were changed since it was made
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
    pairs = [(key, value.strip()) for key, mark, value in (ln.partition("=") for ln in lines[begin + 1 : end]) if mark]
    values = dict(pairs)
    return Observed(
        host=host,
        os_id=values.get("os_id", ""),
        os_version=values.get("os_version", ""),
        python=_python(values.get("python", "")),
        arch=values.get("arch", ""),
        clock=_number(values.get("clock", "")) or 0,
        current=_digest(values.get("current", "")),
        previous=_digest(values.get("previous", "")),
        stamp=values.get("stamp") or None,
        releases=_digests(values.get("releases", "")),
        parts=_digests(values.get("parts", "")),
        blobs=_digests(values.get("blobs", "")),
        certificate=_der(values.get("certificate", "")),
        sums={
            key.removeprefix("sum_"): value
            for key, value in pairs
            if key.startswith("sum_") and _DIGEST.fullmatch(value)
        },
        units=_units(pairs),
        newer=tuple(value.removeprefix("./") for key, value in pairs if key == "newer"),
        free=_free(values.get("free", "")),
    )


def _python(text: str) -> str | None:
    found = re.fullmatch(r"Python (\d+\.\d+)\..*", text)
    return found[1] if found else None


def _digest(link: str) -> str | None:
    """The release that a link leads to."""
    name = link.rstrip("/").rpartition("/")[2]
    return name if _DIGEST.fullmatch(name) else None


def _digests(text: str) -> frozenset[str]:
    return frozenset(word for word in text.split() if _DIGEST.fullmatch(word))


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _free(line: str) -> int | None:
    """From a line of `df -Pk`: file system, blocks, used, available, ..."""
    words = line.split()
    kibibytes = _number(words[3]) if len(words) >= 6 else None
    return None if kibibytes is None else kibibytes * 1024


def _der(text: str) -> bytes | None:
    """The first certificate of a PEM file that came as base64."""
    try:
        pem = base64.b64decode(text, validate=True).decode("ascii")
        body = re.search(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", pem, re.DOTALL)
        return base64.b64decode("".join(body[1].split()), validate=True) if body else None
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def _units(pairs: list[tuple[str, str]]) -> dict[str, UnitState]:
    """`systemctl show` prints a block for each unit; the properties of a block come in any order."""
    blocks: list[dict[str, str]] = [{}]
    for key, value in pairs:
        if not key.startswith("unit."):
            continue
        name = key.removeprefix("unit.")
        if name in blocks[-1]:  # the next block begins
            blocks.append({})
        blocks[-1][name] = value
    return {
        block["Id"]: UnitState(block.get("ActiveState", ""), block.get("SubState", ""))
        for block in blocks
        if block.get("Id") and block.get("LoadState") not in (None, "not-found")
    }
