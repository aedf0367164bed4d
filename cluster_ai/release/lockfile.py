"""cluster.lock beside cluster.yaml: what was fetched from outside, URL -> SHA-256. It belongs into git."""

from __future__ import annotations

import json
from pathlib import Path

from cluster_ai.errors import BundleError
from cluster_ai.release.store import write_atomically


class LockFile:
    NAME = "cluster.lock"

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.NAME

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self.path.read_text())["sha256"]
            if not isinstance(found, dict):
                raise TypeError("sha256 must be an object")
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            remedy = "Take it back out of git, or delete it to fetch everything anew."
            raise BundleError(f"not a lock file: {error}", where=str(self.path), remedy=remedy) from error
        return found

    def get(self, url: str) -> str | None:
        return self._read().get(url)

    def put(self, url: str, sha256: str) -> None:
        text = json.dumps({"sha256": {**self._read(), url: sha256}}, indent=2, sort_keys=True) + "\n"
        write_atomically(self.path, text.encode())
