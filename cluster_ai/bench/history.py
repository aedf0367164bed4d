"""What was measured, kept as JSON lines beside cluster.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)


def keep(path: Path, results: Iterable[DataclassInstance]) -> None:
    """Add them to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(asdict(it)) + "\n" for it in results)


def kept(path: Path, kind: type[T]) -> list[T]:
    """The oldest first. A line that can't be read, such as half a one after a power cut, is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            told: dict[str, Any] = json.loads(line)
            found.append(kind(**{field.name: told[field.name] for field in fields(kind)}))
        except (ValueError, KeyError, TypeError):
            continue
    return found
