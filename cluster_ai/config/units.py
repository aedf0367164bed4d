"""Durations and ports as people write them. A duration needs its unit."""

from __future__ import annotations

import re
from typing import Literal, cast

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|[smhd])\s*)+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhd])", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_OPENING = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?/(tcp|udp)(?: from (\S+))?", re.ASCII)

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def parse_days(text: str) -> tuple[int, ...]:
    """Numbers of days, 0 is Monday: "fri-mon" is 4, 5, 6, 0. Raises ValueError."""
    first, _, last = text.partition("-")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return tuple((begin + i) % 7 for i in range((end - begin) % 7 + 1))


def parse_clock(text: str) -> int:
    """Minutes of the day: "08:30" is 510. Raises ValueError."""
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


def parse_duration(text: str) -> float:
    """Seconds: "500ms", "30s", "5m", "2h", "15d", "1h30m". Raises ValueError."""
    if not _DURATION.fullmatch(text.strip()):
        raise ValueError(f"not a duration: {text!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as the same, to a millisecond."""
    rest, parts = round(seconds * 1000), []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_opening(text: str) -> tuple[str, Literal["tcp", "udp"], str | None]:
    """Ports, protocol, and from where: "8000/tcp", "60000-61000/udp", "2049/tcp from 10.0.0.0/8". Raises ValueError."""
    match = _OPENING.fullmatch(text)
    if not match:
        raise ValueError(f"not a port with its protocol: {text!r}")
    low, high = int(match[1]), int(match[2] or match[1])
    if not (1 <= low < high <= 65535 or (match[2] is None and 1 <= low <= 65535)):
        raise ValueError(f"not a port, or range of ports: {text!r}")
    ports = str(low) if match[2] is None else f"{low}-{high}"
    return ports, cast("Literal['tcp', 'udp']", match[3]), match[4]
