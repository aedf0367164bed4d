"""What a release is, as data. `cluster_ai.release.build.desired` makes them:

desired(config, placement, facts: Mapping[str, HostFacts], store: Store, *, progress=None) -> dict[str, Release]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What must be known of a host before its release can be built."""

    distribution: str  # "debian-12"
    python: str  # "3.11"
    arch: str  # "x86_64", "aarch64"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a release: a deterministic .tar.gz whose members bear their paths in the release (lib/.., etc/..)."""

    name: str  # "app", "lib", "engine", "host"
    sha256: str
    size: int
    path: Path  # on the controller


@dataclass(frozen=True, slots=True)
class Blob:
    """A GGUF file that a host needs, besides its release."""

    sha256: str
    size: int
    path: Path  # on the controller


@dataclass(frozen=True, slots=True)
class Release:
    host: str
    digest: str  # SHA-256 of `manifest`
    manifest: bytes  # manifest.json as it stands in the release
    parts: tuple[Part, ...]  # sorted by name; the host's own etc/, units/ and bin/ are the part "host"
    blobs: tuple[Blob, ...]  # sorted by SHA-256
