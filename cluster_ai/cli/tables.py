"""Lists as commands show them: a table for people, columns for grep, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def show_list(
    title: str, found: Sequence[T], row: Callable[[T], dict[str, str]], nothing: str, as_json: bool = False
) -> None:
    """What was found as a table of `row`s, or as JSON; the sentence `nothing` when there is nothing."""
    if as_json:
        print(json.dumps(found, indent=2))
    elif found:
        table(title, [row(item) for item in found])
    else:
        print(nothing)


def table(title: str, rows: list[dict[str, str]]) -> None:
    """Boxes on a terminal; elsewhere columns that grep and awk can read."""
    if not rows:
        return
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(*(heading.capitalize() for heading in rows[0]), title=title, title_justify="left")
        for values in rows:
            drawn.add_row(*(Text(value) for value in values.values()))
        Console().print(drawn)
        return
    lines = [tuple(heading.upper() for heading in rows[0]), *(tuple(line.values()) for line in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(rows[0]))]
    for line in lines:
        print("  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip())
