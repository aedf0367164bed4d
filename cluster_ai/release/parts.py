"""The parts that hosts share: what each is made from, and how it is built when it isn't in the store yet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from cluster_ai.config.model import Config, Host
from cluster_ai.errors import BundleError
from cluster_ai.release import engine
from cluster_ai.release.engine import Progress
from cluster_ai.release.model import HostFacts
from cluster_ai.release.store import Built, Store, digest

ROOT = Path(__file__).resolve().parents[2]  # the checkout

# What of cluster_ai runs on hosts. The rest stays on the controller, so that a change there restarts nothing.
ON_HOSTS = (
    *("__init__.py", "addresses.py", "errors.py", "layout.py", "settings.py", "sizes.py"),
    *("audit", "cluster", "engine", "gateway", "host", "metrics", "scaling", "tasks", "tls"),
    *(f"placement/{name}.py" for name in ("__init__", "explain", "memory", "repair", "room", "speed")),
    *("security/__init__.py", "security/ca.py", "deploys/__init__.py"),
    *("deploys/peer.py", "deploys/receiver.py"),
)
_DATA = {".py", ".css", ".html", ".ico", ".jpg", ".js", ".json", ".png", ".svg", ".toml", ".woff2"}


def app(store: Store) -> Built:
    """Our own code."""
    contents = {path: file.read_bytes() for path, file in sources()}
    key = digest(["app", {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}])
    if found := store.part("app", key):
        return found
    from cluster_ai.release import archive

    return archive.build(store, "app", key, [archive.of_bytes(path, content) for path, content in contents.items()])


def sources() -> Iterator[tuple[str, Path]]:
    """Path in the release, path here."""
    for root in (*(ROOT / "cluster_ai" / name for name in ON_HOSTS), ROOT / "dashboard"):
        for file in _walk(root):
            yield f"app/{file.relative_to(ROOT).as_posix()}", file


def _walk(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for child in sorted(path.iterdir()):
            if child.name != "__pycache__":
                yield from _walk(child)
    elif path.suffix in _DATA:
        yield path


def lib(host: Host, facts: HostFacts, store: Store, progress: Progress | None) -> Built:
    """The packages that our code needs there. The head's include a worker's, so a host that is both has the head's."""
    from cluster_ai.release import wheels

    lock = ROOT / "requirements" / ("head.lock" if "head" in host.roles else "worker.lock")
    if not lock.is_file():
        remedy = "Run cluster-ai from its checkout: releases are built from its lock files."
        raise BundleError("no such file", where=str(lock), remedy=remedy)
    text = lock.read_bytes()
    key = digest(["lib", wheels.LAYOUT, hashlib.sha256(text).hexdigest(), facts.python, facts.arch])
    if found := store.part("lib", key):
        return found
    from cluster_ai.release import archive

    if progress:
        progress(f"packages for Python {facts.python} on {facts.arch} ({lock.stem})", 0, None)
    with wheels.Wheels(lock, facts, store) as members:
        return archive.build(store, "lib", key, members)


def engine_part(config: Config, facts: HostFacts, store: Store, progress: Progress | None) -> Built:
    """Ollama."""
    known = engine.inputs(config, facts.arch, store)
    if known and (found := store.part("engine", _engine_key(known))):
        return found
    from cluster_ai.release import archive

    path, sha256 = engine.obtain(config, facts.arch, store, progress)
    if progress:
        progress(f"engine for {facts.arch}, from {path}", 0, None)
    with engine.members(path) as members:
        return archive.build(store, "engine", _engine_key(sha256), members)


def _engine_key(sha256: str) -> str:
    return digest(["engine", engine.LAYOUT, sha256])
