"""The desired releases of all hosts. Building what the store lacks takes minutes; with all there, milliseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cluster_ai.config.model import Config, Host, hosts
from cluster_ai.errors import ConfigError, HostError
from cluster_ai.release import manifest, parts
from cluster_ai.release.engine import Progress
from cluster_ai.release.model import Blob, HostFacts, Release
from cluster_ai.release.render import File, render
from cluster_ai.release.service import Unit
from cluster_ai.release.store import Built, Store, canonical, digest
from cluster_ai.release.units import units

if TYPE_CHECKING:
    from cluster_ai.placement.place import Placement

ARCHS = ("x86_64", "aarch64")
OLDEST_PYTHON = (3, 11)


def desired(
    config: Config,
    placement: Placement,
    facts: Mapping[str, HostFacts],
    store: Store,
    *,
    progress: Progress | None = None,
) -> dict[str, Release]:
    """The release of every host whose facts are given, by its name.

    progress(what, bytes done, bytes in all or None) is called while something is built or fetched, and only then.
    """
    builder = _Builder(config, placement, store, progress)
    return {host.name: builder.release(host, facts[host.name]) for host in hosts(config) if host.name in facts}


def blobs_of(config: Config, store: Store) -> dict[str, Blob]:
    """Model -> its GGUF file, for the models that come from one."""
    found = {}
    for model in config.models:
        if model.source is not None:
            path = config.path.parent / model.source
            try:
                found[model.name] = Blob(store.sha256_of(path), path.stat().st_size, path)
            except OSError as error:
                what = f"can't read the file of {model.name}: {error.strerror}"
                raise ConfigError(
                    what, where=str(path), remedy="models[].source in cluster.yaml is a GGUF file on this machine."
                ) from error
    return found


class _Builder:
    def __init__(self, config: Config, placement: Placement, store: Store, progress: Progress | None) -> None:
        self.config, self.placement, self.store, self.progress = config, placement, store, progress
        self.app = parts.app(store)
        self.blobs = blobs_of(config, store)
        self.libs: dict[tuple[bool, str, str], Built] = {}
        self.engines: dict[str, Built] = {}

    def release(self, host: Host, facts: HostFacts) -> Release:
        _check(host, facts)
        wanted = units(self.config, host)
        rendered = render(
            self.config, self.placement, host, wanted, {name: blob.sha256 for name, blob in self.blobs.items()}
        )
        built = {"app": self.app, "lib": self._lib(host, facts), "host": _host_part(rendered, self.store)}
        if "head" in host.roles and self.config.interface.open_webui:
            built["open-webui"] = parts.open_webui(host, facts, self.store, self.progress)
        if host.worker is not None:
            built["engine"] = self._engine(facts)
        placed = {p.model for p in self.placement.on(host.worker.name)} if host.worker else set()
        # The head has them all, to give one to a worker that takes over from another (gateway/models/reconciler.py).
        blobs = {blob.sha256: blob for name, blob in self.blobs.items() if name in placed or "head" in host.roles}
        name, content = self._manifest(host, facts, wanted, rendered, built, list(blobs))
        ordered = tuple(built[part].part for part in sorted(built))
        return Release(host.name, name, content, ordered, tuple(blobs[sha256] for sha256 in sorted(blobs)))

    def _manifest(
        self,
        host: Host,
        facts: HostFacts,
        wanted: tuple[Unit, ...],
        rendered: Mapping[str, File],
        built: Mapping[str, Built],
        blobs: list[str],
    ) -> tuple[str, bytes]:
        hashes = {path: hashlib.sha256(file.content).hexdigest() for path, file in rendered.items()}
        bare = manifest.skeleton(
            host=host.name,
            roles=host.roles,
            python=facts.python,
            arch=facts.arch,
            parts={name: b.part.sha256 for name, b in built.items()},
            units=manifest.unit_inputs(wanted, hashes, {name: b.tree for name, b in built.items()}),
            blobs=blobs,
        )
        key = digest(bare)
        if kept := self.store.manifest_by_key(key):
            return kept
        content = canonical({**bare, "files": manifest.files(self.store.tree(b.tree) for b in built.values())})
        return self.store.keep_manifest(key, content), content

    def _lib(self, host: Host, facts: HostFacts) -> Built:
        key = ("head" in host.roles, facts.python, facts.arch)
        if key not in self.libs:
            self.libs[key] = parts.lib(host, facts, self.store, self.progress)
        return self.libs[key]

    def _engine(self, facts: HostFacts) -> Built:
        if facts.arch not in self.engines:
            self.engines[facts.arch] = parts.engine_part(self.config, facts, self.store, self.progress)
        return self.engines[facts.arch]


def _check(host: Host, facts: HostFacts) -> None:
    if facts.arch not in ARCHS:
        what = f"can't be used: its architecture is {facts.arch}"
        raise HostError(what, where=host.name, remedy=f"Supported are {', '.join(ARCHS)}.")
    try:
        version = tuple(int(number) for number in facts.python.split("."))
    except ValueError:
        version = ()
    if version[:2] < OLDEST_PYTHON:
        remedy = f"Python {'.'.join(map(str, OLDEST_PYTHON))} or later is needed, as in Debian 12 and Ubuntu 24.04."
        raise HostError(f"can't be used: its Python is {facts.python}", where=host.name, remedy=remedy)


def _host_part(rendered: Mapping[str, File], store: Store) -> Built:
    key = digest(
        ["host", {path: [hashlib.sha256(f.content).hexdigest(), f.executable] for path, f in rendered.items()}]
    )
    if found := store.part("host", key):
        return found
    from cluster_ai.release import archive

    members = [archive.of_bytes(path, file.content, executable=file.executable) for path, file in rendered.items()]
    return archive.build(store, "host", key, members)
