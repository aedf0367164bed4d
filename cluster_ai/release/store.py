"""What has been built, kept by content beside cluster.yaml: .cluster-ai/store.

    wheels/                  what was fetched from the package index
    downloads/<sha256>       engine archives
    parts/<sha256>.tar.gz    parts, and by-inputs/<key>.json: which part came of which inputs
    trees/<digest>.json      the files of a part: path, SHA-256, mode
    releases/<digest>.json   manifests, and by-parts/<key>: which manifest came of which parts

Nothing here is needed to run a cluster: it can be deleted, and is then built again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

from cluster_ai.config.model import Config
from cluster_ai.errors import BundleError
from cluster_ai.release.model import Part

Tree = list[tuple[str, str, str]]  # path in the release, SHA-256, mode as "0644"; sorted


@dataclass(frozen=True, slots=True)
class Built:
    """A part, and the digest of its tree: that of what is in it, however it was compressed."""

    part: Part
    tree: str


def canonical(value: Any) -> bytes:
    """The one way in which the same value becomes the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    with new_file(path, mode) as file:
        file.write(content)


@contextlib.contextmanager
def new_file(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file that appears under its name, whole, when the block ends; not at all when the block fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, config: Config) -> Store:
        return cls(config.path.resolve().parent / ".cluster-ai" / "store")

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    @property
    def downloads(self) -> Path:
        return self.root / "downloads"

    # parts

    def part(self, name: str, key: str) -> Built | None:
        """The part that was once built from the inputs with this key."""
        try:
            found = json.loads((self.root / "parts/by-inputs" / f"{key}.json").read_bytes())
            path = self.part_path(found["sha256"])
            if path.stat().st_size != found["size"] or not self._tree_path(found["tree"]).exists():
                return None
        except (OSError, ValueError, KeyError):
            return None
        return Built(Part(name, found["sha256"], found["size"], path), found["tree"])

    def part_path(self, sha256: str) -> Path:
        return self.root / "parts" / f"{sha256}.tar.gz"

    def member(self, sha256: str, path: str) -> bytes:
        """A file of a part."""
        import tarfile

        try:
            with tarfile.open(self.part_path(sha256), "r|gz") as archive:
                for info in archive:
                    if info.name == path and (file := archive.extractfile(info)):
                        return file.read()
        except (OSError, tarfile.TarError) as error:
            remedy = "cluster-ai release build makes it anew"
            raise BundleError("this part isn't in the store any more", where=sha256[:16], remedy=remedy) from error
        raise BundleError(
            f"this part has no {path}", where=sha256[:16], remedy="cluster-ai release build makes it anew"
        )

    def keep_part(self, name: str, key: str, sha256: str, size: int, tree: Tree) -> Built:
        """Note the part whose archive was just put at part_path(sha256)."""
        of_tree = digest(tree)
        write_atomically(self._tree_path(of_tree), canonical(tree))
        record = {"name": name, "sha256": sha256, "size": size, "tree": of_tree}
        write_atomically(self.root / "parts/by-inputs" / f"{key}.json", canonical(record))
        return Built(Part(name, sha256, size, self.part_path(sha256)), of_tree)

    def tree(self, of_tree: str) -> Tree:
        return [(path, sha256, mode) for path, sha256, mode in json.loads(self._tree_path(of_tree).read_bytes())]

    def _tree_path(self, of_tree: str) -> Path:
        return self.root / "trees" / f"{of_tree}.json"

    # manifests

    def manifest_by_key(self, key: str) -> tuple[str, bytes] | None:
        try:
            name = (self.root / "releases/by-parts" / key).read_text()
            return name, self.manifest_path(name).read_bytes()
        except OSError:
            return None

    def keep_manifest(self, key: str, manifest: bytes) -> str:
        name = hashlib.sha256(manifest).hexdigest()
        write_atomically(self.manifest_path(name), manifest)
        write_atomically(self.root / "releases/by-parts" / key, name.encode())
        return name

    def manifest_path(self, release: str) -> Path:
        return self.root / "releases" / f"{release}.json"

    def manifest(self, start: str) -> tuple[str, dict[str, Any]]:
        """The manifest whose digest starts so, for people."""
        found = sorted((self.root / "releases").glob(f"{start}*.json")) if start.isalnum() else []
        if len(found) != 1:
            what = "several releases' digests start so" if found else "no release with this digest was built here"
            raise BundleError(what, where=start, remedy="`cluster-ai release build` lists the digests.")
        return found[0].stem, cast("dict[str, Any]", json.loads(found[0].read_bytes()))

    def newest(self, host: str) -> str | None:
        """The digest of the release that was built last for a host."""
        by_age = sorted((self.root / "releases").glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        return next((path.stem for path in by_age if json.loads(path.read_bytes())["host"] == host), None)

    # hashes of big files, which are read once as long as they don't change

    def sha256_of(self, path: Path) -> str:
        """SHA-256 of a local file; the file is read only when its size or time of change differs from last time."""
        name = str(path.resolve())
        stat = path.stat()
        known = self._hashes.get(name)
        if known and known[:2] == [stat.st_size, stat.st_mtime_ns]:
            return cast(str, known[2])
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self._hashes[name] = [stat.st_size, stat.st_mtime_ns, sha256]
        write_atomically(self.root / "hashes.json", canonical(self._hashes))
        return sha256

    @cached_property
    def _hashes(self) -> dict[str, list[Any]]:
        try:
            return cast("dict[str, list[Any]]", json.loads((self.root / "hashes.json").read_bytes()))
        except (OSError, ValueError):
            return {}
