"""Parts as archives: the same members are the same bytes, whoever builds them and when."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from cluster_ai.errors import BundleError
from cluster_ai.release.store import Built, Store, new_file


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a part. Its content is opened when it is written, so that a part may be larger than memory."""

    path: str  # in the release
    size: int
    open: Callable[[], AbstractContextManager[IO[bytes]]]
    executable: bool = False
    same_as: str | None = None  # path of a member with the same content: becomes a hard link to it

    @property
    def mode(self) -> int:
        return 0o755 if self.executable else 0o644


def of_bytes(path: str, content: bytes, *, executable: bool = False) -> Member:
    return Member(path, len(content), lambda: nullcontext(io.BytesIO(content)), executable)


def of_file(path: str, file: Path, *, executable: bool = False) -> Member:
    return Member(path, file.stat().st_size, lambda: file.open("rb"), executable)


class _Hashing(io.RawIOBase):
    """Passes bytes on, from or to a file, and hashes them on their way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.hash, self.size = file, hashlib.sha256(), 0

    def _seen(self, data: bytes) -> None:
        self.hash.update(data)
        self.size += len(data)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._seen(data)
        return data

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._seen(data)
        return self._file.write(data)


def build(store: Store, name: str, key: str, members: Iterable[Member]) -> Built:
    """Write the archive of these members into the store, under the key of the inputs that they came from."""
    tree: dict[str, tuple[str, str, str]] = {}
    with new_file(store.root / "parts" / f"{key}.new") as file:
        out = _Hashing(file)
        with (
            gzip.GzipFile("", "wb", 6, out, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
        ):
            made: set[PurePosixPath] = set()
            for member in _ordered(members):
                for folder in reversed(PurePosixPath(member.path).parents[:-1]):
                    if folder not in made:
                        made.add(folder)
                        archive.addfile(_info(f"{folder}/", tarfile.DIRTYPE, 0o755))
                tree[member.path] = _add(archive, member, tree)
    sha256 = out.hash.hexdigest()
    (store.root / "parts" / f"{key}.new").replace(store.part_path(sha256))
    return store.keep_part(name, key, sha256, out.size, sorted(tree.values()))


def _ordered(members: Iterable[Member]) -> list[Member]:
    """By path, each path once, hard links after what they link to."""
    found: dict[str, Member] = {}
    for member in members:
        path = PurePosixPath(member.path)
        if path.is_absolute() or ".." in path.parts:
            raise BundleError("this path leads out of the release", where=member.path)
        other = found.setdefault(member.path, member)
        if other is not member and _content(other) != _content(member):
            raise BundleError("two packages bring this file, with different contents", where=member.path)
    return sorted(found.values(), key=lambda m: (m.same_as is not None, m.path))


def _content(member: Member) -> bytes:
    with member.open() as file:
        return file.read()


def _info(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.mode = kind, mode  # times, owners and names stay zero and empty
    return info


def _add(archive: tarfile.TarFile, member: Member, tree: dict[str, tuple[str, str, str]]) -> tuple[str, str, str]:
    if member.same_as is not None:
        info = _info(member.path, tarfile.LNKTYPE, member.mode)
        info.linkname = member.same_as
        archive.addfile(info)
        return (member.path, *tree[member.same_as][1:])
    info = _info(member.path, tarfile.REGTYPE, member.mode)
    info.size = member.size
    with member.open() as file:
        reader = _Hashing(file)
        archive.addfile(info, reader)
    return member.path, reader.hash.hexdigest(), f"{member.mode:04o}"
