"""Plain data that crosses the border between this program and pyinfra's process, as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["start", "ok", "changed", "failed"]


@dataclass(frozen=True, slots=True)
class HostTarget:
    """What one host is to become."""

    name: str
    address: str
    digest: str  # of the release
    manifest_path: str  # on the controller
    parts: tuple[tuple[str, str, str], ...]  # (name, sha256, path of the .tar.gz on the controller)
    blobs: tuple[tuple[str, str], ...]  # (sha256, path of the file on the controller)
    credentials: dict[str, str] | None = dataclasses.field(default=None, repr=False)  # file name -> text; None: leave


@dataclass(frozen=True, slots=True)
class Event:
    """A step on one host. A long step sends "start" again whenever its detail (such as a percentage) changes."""

    host: str
    step: str
    status: Status
    detail: str = ""


def dump(targets: tuple[HostTarget, ...]) -> str:
    return json.dumps([dataclasses.asdict(target) for target in targets])


def load(text: str) -> tuple[HostTarget, ...]:
    return tuple(_target(item) for item in json.loads(text))


def _target(item: dict[str, Any]) -> HostTarget:
    pairs = {"parts": tuple((n, s, p) for n, s, p in item["parts"]), "blobs": tuple((s, p) for s, p in item["blobs"])}
    return HostTarget(**{**item, **pairs})
