"""Numbers as people read them: one place, so that a unit looks the same in a metric, a table and a message."""

from __future__ import annotations

import math

GIB = 2**30
NOTHING = "\N{EN DASH}"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def significant(value: float) -> str:
    """Three significant digits at most, never in exponent form: 0.042, 1.5, 27.3, 1 204."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 3)}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: float | None) -> str:
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}") if value is not None and _known(value) else NOTHING


def counted(number: int, one: str) -> str:
    """Such as "1 request", "3 requests"."""
    return f"{count(number)} {one}{'' if number == 1 else 's'}"


def answering(number: int, one: str) -> str:
    return f"{counted(number, one)} answer{'s' if number == 1 else ''}"


def rate(value: float | None) -> str:
    return f"{significant(value)} /s" if value is not None and _known(value) else NOTHING


def share(value: float | None) -> str:
    if value is None or not _known(value):
        return NOTHING
    percent = 100 * value
    return f"{percent:.0f} %" if round(percent, 1) >= 10 or percent == 0 else f"{percent:.1f} %"


def seconds(value: float | None) -> str:
    if value is None or not _known(value):
        return NOTHING
    return f"{1000 * value:.0f} ms" if value < 1 else f"{significant(value)} s"


def gib(value: float | None) -> str:
    if value is None or not _known(value):
        return NOTHING
    return f"{significant(value / GIB)} GiB" if value >= GIB or value == 0 else f"{value / 2**20:.0f} MiB"


def of_gib(used: float | None, total: float | None) -> str | None:
    """Such as "11.2 of 31.3 GiB"; None where nothing is known."""
    if used is None or not _known(used):
        return None
    return f"{used / GIB:.1f} of {total / GIB:.1f} GiB" if total else gib(used)


def age(value: float | None) -> str:
    """How long ago, in the largest unit that fits."""
    return f"{duration(value)} old" if value is not None and _known(value) else "of unknown age"


def duration(value: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{max(0, round(value))} s"
