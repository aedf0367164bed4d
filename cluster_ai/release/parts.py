"""The parts that hosts share: what each is made from, and how it is built when it isn't in the store yet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from cluster_ai.config.model import Config, Host
from cluster_ai.errors import BundleError, HostError
from cluster_ai.release import engine
from cluster_ai.release.engine import Progress
from cluster_ai.release.model import HostFacts
from cluster_ai.release.store import Built, Store, digest

OPEN_WEBUI_PYTHONS = ("3.11", "3.12")
ROOT = Path(__file__).resolve().parents[2]  # the checkout

# For the gateway, and for a draft of cluster.yaml in the dashboard.
_PLACEMENT = ("__init__", "check", "explain", "memory", "need", "place", "repair", "room", "speed")
_CONFIG = ("__init__", "document", "forms", "groups", "keys", "load", "model", "schema", "units", "validate")
# What of cluster_ai runs on hosts. The rest stays on the controller, so that a change there restarts nothing.
ON_HOSTS = (
    *("__init__.py", "addresses.py", "errors.py", "layout.py", "listening.py", "settings.py", "sizes.py"),
    *("audit", "cluster", "engine", "gateway", "host", "metrics", "openwebui", "scaling", "tasks", "tls"),
    *(f"placement/{name}.py" for name in _PLACEMENT),
    *(f"config/{name}.py" for name in _CONFIG),
    "config/sections",
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
    return _packages("lib", "head" if "head" in host.roles else "worker", facts, store, progress)


def open_webui(host: Host, facts: HostFacts, store: Store, progress: Progress | None) -> Built:
    """Open WebUI with its packages, which want other versions than ours."""
    if facts.python not in OPEN_WEBUI_PYTHONS:
        what = f"Open WebUI doesn't run on its Python {facts.python}, only on {' and '.join(OPEN_WEBUI_PYTHONS)}"
        remedy = "Set interface.open_webui: false, or run it elsewhere, as docs/open-webui.md tells."
        raise HostError(what, where=host.name, remedy=remedy)
    return _packages("open-webui", "open-webui", facts, store, progress)


def _packages(part: str, lock_name: str, facts: HostFacts, store: Store, progress: Progress | None) -> Built:
    """Those of a lock file, in the folder of the part's name."""
    from cluster_ai.release import wheels

    lock = ROOT / "requirements" / f"{lock_name}.lock"
    if not lock.is_file():
        remedy = "Run cluster-ai from its checkout: releases are built from its lock files."
        raise BundleError("no such file", where=str(lock), remedy=remedy)
    text = lock.read_bytes()
    key = digest([part, wheels.LAYOUT, hashlib.sha256(text).hexdigest(), facts.python, facts.arch])
    if found := store.part(part, key):
        return found
    from cluster_ai.release import archive

    if progress:
        progress(f"packages for Python {facts.python} on {facts.arch} ({lock.stem})", 0, None)
    with wheels.Wheels(lock, facts, store, part) as members:
        return archive.build(store, part, key, members)


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
