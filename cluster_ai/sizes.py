"""Sizes and counts as people write and read them.

A size needs its unit: to one, `memory: 32` is bytes, to another GB.
"""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]i?)?B", re.ASCII)
_STEPS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Bytes: "32GB" is 32 * 10^9, "8GiB" is 8 * 2^30. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"not a size: {text!r}")
    number, prefix = match.group(1), match.group(2) or ""
    base = 1024 if prefix.endswith("i") else 1000
    factor: int = base ** _STEPS[prefix.removesuffix("i").upper()]
    return int(number) * factor if number.isdigit() else round(float(number) * factor)


def format_size(size: int) -> str:
    """For people: three digits, decimal units ("8.59 GB")."""
    value, units = float(size), ("B", "kB", "MB", "GB", "TB")
    for unit in units:
        if value < 999.5 or unit == units[-1]:
            return f"{value:.3g} {unit}"
        value /= 1000
    raise AssertionError


def counted(number: int, one: str) -> str:
    """Such as "1 task", "3 tasks"."""
    return f"{number} {one}{'' if number == 1 else 's'}"
