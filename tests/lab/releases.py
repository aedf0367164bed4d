"""Releases for tests of the release layer, right and broken ones, and what hosts make of them."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from cluster_ai import layout
from cluster_ai.config import Config
from cluster_ai.deploys.data import Event, HostTarget
from cluster_ai.provision.pyinfra import HostOutcome, push, switch
from tests.lab.conftest import Cluster


def broken(target: HostTarget, folder: Path, path: str, change: Callable[[bytes], bytes]) -> HostTarget:
    """A whole, right release, but for a file of its host's own part, and the unit that runs from it."""
    name, _, archive = next(part for part in target.parts if part[0] == "host")
    manifest = json.loads(Path(target.manifest_path).read_text())
    out = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            file = old.extractfile(member) if member.isfile() else None
            content = file.read() if file else b""
            if member.name == path:
                content = change(content)
                member.size = len(content)
                manifest["files"][path]["sha256"] = hashlib.sha256(content).hexdigest()
                if path.startswith("units/"):
                    manifest["units"][Path(path).name] = hashlib.sha256(content).hexdigest()
            new.addfile(member, io.BytesIO(content) if file else None)
    packed = gzip.compress(out.getvalue(), mtime=0)
    sha = hashlib.sha256(packed).hexdigest()
    (folder / "host.tar.gz").write_bytes(packed)
    manifest["parts"]["host"] = sha
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    (folder / "manifest.json").write_bytes(text)
    parts = (*(p for p in target.parts if p[0] != "host"), (name, sha, str(folder / "host.tar.gz")))
    digest = hashlib.sha256(text).hexdigest()
    return dataclasses.replace(target, digest=digest, manifest_path=str(folder / "manifest.json"), parts=parts)


def current(cluster: Cluster, host: str) -> str:
    return cluster.lab.run_on(host, f"readlink {layout.CURRENT}").strip().rpartition("/")[2]


def is_whole(cluster: Cluster, host: str) -> bool:
    """The release that is current is as its manifest says, and all its units run. Not while a switch is under way."""
    agent = f"{layout.CURRENT}/bin/launch python3 -m cluster_ai.host verify --json etc/host.json"
    said = cluster.lab.run_on(host, agent, check=False)
    return bool(said) and not json.loads(said)["drift"]


def pushed(config: Config, target: HostTarget, events: list[Event]) -> HostOutcome:
    return push(config, [target], sudo_password=None, on_event=events.append)[target.name]


def switched(config: Config, target: HostTarget, events: list[Event]) -> HostOutcome:
    return switch(config, [target], sudo_password=None, on_event=events.append)[target.name]
