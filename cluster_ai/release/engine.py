"""The part "engine": Ollama, from its release archive, from a local one, or from one binary.

An archive from outside has a SHA-256 that is known from cluster.yaml or from cluster.lock, where a first fetch notes
it: a second one, on any machine, then gets the same or is refused.
"""

from __future__ import annotations

import contextlib
import posixpath
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cluster_ai.config.model import Config, Engine
from cluster_ai.errors import BundleError
from cluster_ai.release.archive import Member, of_file
from cluster_ai.release.fetch import download
from cluster_ai.release.lockfile import LockFile
from cluster_ai.release.store import Store

Progress = Callable[[str, int, int | None], None]  # what, bytes done, bytes in all

LAYOUT = 1  # to be raised when what is kept of an archive changes
_ARCHS = {"x86_64": "amd64", "aarch64": "arm64"}
_ARCHIVES = (".tgz", ".tar.gz", ".tar.zst", ".tar.xz", ".tar")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the engine comes from, decided: an address, or a file here."""

    url: str | None
    path: Path | None


def source(engine: Engine, base: Path, arch: str) -> Source:
    if engine.source is None:
        return Source(release_url(engine.version, arch), None)
    if engine.source.startswith(("https://", "http://")):
        return Source(engine.source, None)
    return Source(None, base / Path(engine.source).expanduser())


def release_url(version: str, arch: str) -> str:
    """Ollama's own release for Linux: packed by zstd since 0.14."""
    parts = [int(p) if p.isdigit() else 0 for p in version.lstrip("v").split(".")[:2]]
    ending = "tar.zst" if parts >= [0, 14] else "tgz"
    return f"https://github.com/ollama/ollama/releases/download/v{version.lstrip('v')}/ollama-linux-{_ARCHS[arch]}.{ending}"


def inputs(config: Config, arch: str, store: Store) -> str | None:
    """SHA-256 of what the part is made from; None: to be fetched before it is known."""
    base = config.path.resolve().parent
    found = source(config.engine, base, arch)
    if found.path is None:
        assert found.url is not None
        return config.engine.sha256 or LockFile(base).get(found.url)
    if not found.path.is_file():
        raise BundleError(
            "no such file",
            where=str(found.path),
            remedy="engine.source in cluster.yaml is an archive, or a binary, on this machine.",
        )
    sha256 = store.sha256_of(found.path)
    if config.engine.sha256 not in (None, sha256):
        raise mismatch(str(found.path), config.engine.sha256 or "", sha256)
    return sha256


def obtain(config: Config, arch: str, store: Store, progress: Progress | None) -> tuple[Path, str]:
    """The file that the engine is made from, and its SHA-256; fetched when it must be."""
    base = config.path.resolve().parent
    found = source(config.engine, base, arch)
    expected = inputs(config, arch, store)
    if found.path is not None:
        assert expected is not None
        return found.path, expected
    assert found.url is not None
    name = PurePosixPath(found.url.split("?")[0]).name
    if expected is not None and (kept := store.downloads / expected / name).is_file():
        return kept, expected
    path, sha256 = download(found.url, store.downloads, progress)
    if expected is None:
        LockFile(base).put(found.url, sha256)
        if progress:
            progress(f"{found.url}: not fetched before; its SHA-256 {sha256} is now in {LockFile.NAME}", 0, None)
    elif expected != sha256:
        path.unlink()
        raise mismatch(found.url, expected, sha256)
    kept = store.downloads / sha256 / name
    kept.parent.mkdir(exist_ok=True)
    path.replace(kept)
    return kept, sha256


def mismatch(where: str, expected: str, found: str) -> BundleError:
    return BundleError(
        f"SHA-256 is {found}, expected {expected}",
        where=where,
        remedy=f"Find out which is right; engine.sha256 in cluster.yaml, or {LockFile.NAME}, says what is expected.",
    )


@contextlib.contextmanager
def members(path: Path) -> Iterator[list[Member]]:
    """The part's members, to be read while this is open: engine/bin/ollama, engine/lib/ollama/..."""
    if not path.name.endswith(_ARCHIVES):
        yield [of_file("engine/bin/ollama", path, executable=True)]
        return
    with tempfile.TemporaryDirectory(prefix=".engine.", dir=path.parent) as name:
        folder = Path(name)
        _unpack(path, folder)
        found = list(_unpacked(folder))
        if not any(m.path == "engine/bin/ollama" for m in found):
            raise BundleError(
                "there is no bin/ollama in this archive", where=str(path), remedy="Is it Ollama's release for Linux?"
            )
        yield found


def _unpack(path: Path, folder: Path) -> None:
    try:
        if not path.name.endswith(".zst"):
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
            return
        zstd = shutil.which("zstd")
        if zstd is None:
            raise BundleError("zstd is missing, which unpacks this", where=str(path), remedy="apt install zstd")
        with subprocess.Popen([zstd, "-dcq", str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                archive.extractall(folder, filter="data")
        if process.returncode:
            raise BundleError("zstd can't unpack this", where=str(path))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BundleError(f"can't unpack this: {error}", where=str(path)) from error


def _unpacked(folder: Path) -> Iterator[Member]:
    for path in sorted(folder.rglob("*")):
        name = f"engine/{path.relative_to(folder).as_posix()}"
        if path.is_symlink():
            # Links between versions of a library: one file under several names, as a release is made of plain files.
            target = path.resolve()
            if target.is_file():
                same_as = posixpath.join("engine", target.relative_to(folder.resolve()).as_posix())
                yield Member(name, 0, of_file(name, target).open, bool(target.stat().st_mode & 0o111), same_as)
        elif path.is_file():
            yield of_file(name, path, executable=bool(path.stat().st_mode & 0o111))
