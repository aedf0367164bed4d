"""Runs on a host, by its own python3 alone: remove releases beyond the last few, and parts and blobs that none needs.

Arguments: KEEP ROOT BLOBS. Prints what it removed, as JSON.
"""

import json
import os
import shutil
import sys
from pathlib import Path


def lived_in(releases: Path) -> "set[str]":
    """Releases in which a process still is: every process of ours starts in its release's real path."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            path = link.readlink()
        except OSError:
            continue
        if releases in path.parents:
            found.add(path.relative_to(releases).parts[0])
    return found


def prune(keep: int, root: Path, blobs: Path) -> "dict[str, list[str]]":
    """Keep the current release, the way back, those with a process, and of the rest the newest, `keep` in all."""
    releases, parts = root / "releases", root / "parts"
    links = [root / "current", root / "previous"]
    held = lived_in(releases) | {link.resolve().name for link in links if link.is_symlink()}
    known = sorted((p for p in releases.iterdir() if (p / "manifest.json").is_file()), key=lambda p: p.stat().st_mtime)
    loose = [p for p in known if p.name not in held]
    doomed = loose[: max(0, len(known) - max(keep, len(held)))]
    manifests = [json.loads((p / "manifest.json").read_text()) for p in known if p not in doomed]
    used_parts = {sha for manifest in manifests for sha in manifest["parts"].values()}
    used_blobs = {sha for manifest in manifests for sha in manifest["blobs"]}
    removed = {
        "releases": doomed,
        "parts": [p for p in (parts.iterdir() if parts.is_dir() else ()) if p.name not in used_parts],
        "blobs": [p for p in (blobs.iterdir() if blobs.is_dir() else ()) if p.name not in used_blobs],
    }
    for paths in removed.values():
        for path in paths:
            remove(path)
    return {kind: sorted(p.name for p in paths) for kind, paths in removed.items()}


def remove(path: Path) -> None:
    """A folder leaves its place first, so that nobody meets half of it."""
    if not path.is_dir():
        path.unlink()
        return
    going = path.with_name(f".{path.name}.going")
    if not path.name.startswith("."):
        path.rename(going)
        path = going
    for folder, _, _ in os.walk(path):
        Path(folder).chmod(0o700)
    shutil.rmtree(path)


if __name__ == "__main__":
    print(json.dumps(prune(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))))
