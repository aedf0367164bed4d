"""The log files of a cluster on one machine: of all its parts, or of a worker's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster_ai.local.model import Paths

HERE = "localhost"  # the name of this machine, as of a host


def files(paths: Paths, workers: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Host -> part -> file. A worker's parts are called as on a host of its own: worker and engine."""
    found = {path.stem: path for path in sorted(paths.logs.glob("*.log"))}
    own = {
        name: {part: found[log] for part, log in (("worker", name), ("engine", f"engine-{number}")) if log in found}
        for number, name in enumerate(workers, 1)
    }
    return {HERE: found, **own}
