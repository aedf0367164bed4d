"""What a release's manifest.json says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cluster_ai.release.service import Unit
from cluster_ai.release.store import Tree, digest

FORMAT = 1


def unit_inputs(wanted: Iterable[Unit], files: Mapping[str, str], trees: Mapping[str, str]) -> dict[str, str]:
    """For each unit a digest over all that it runs from: a switch restarts the units whose digest differs.

    files: SHA-256 by path, of the part "host". trees: digest of the files of each other part, however compressed.
    """
    found = {}
    for unit in wanted:
        paths = [f"units/{unit.name}", *unit.etc, *(["bin/launch"] if unit.launched else [])]
        found[unit.name] = digest({"files": {p: files[p] for p in paths}, "parts": {p: trees[p] for p in unit.parts}})
    return found


def skeleton(
    *,
    host: str,
    roles: Iterable[str],
    python: str,
    arch: str,
    parts: Mapping[str, str],
    units: Mapping[str, str],
    blobs: Iterable[str],
) -> dict[str, Any]:
    """The manifest without its files, which follow from the parts."""
    return {
        "format": FORMAT,
        "host": host,
        "roles": sorted(roles),
        "python": python,
        "arch": arch,
        "parts": dict(parts),
        "units": dict(units),
        "blobs": sorted(blobs),
    }


def files(trees: Iterable[Tree]) -> dict[str, dict[str, str]]:
    return {path: {"sha256": sha256, "mode": mode} for tree in trees for path, sha256, mode in tree}
