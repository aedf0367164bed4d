"""A release's manifest.json, as far as a plan needs it; read so that hundreds of hosts cost little more than one.

A manifest names thousands of files, nearly all of them the same on every host. Its JSON is canonical, so the files of
one folder are one run of bytes: each such run is read once, however many manifests have it.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

RUNS = 8  # of each folder that are remembered: of hosts with other roles, before and after
_known: dict[bytes, deque[tuple[bytes, Mapping[str, str]]]] = {}
_BEGIN, _END = b'"files":{', b'},"format":'
_PACKAGE = re.compile(r"lib/([^/]+)-([^/-]+)\.dist-info/METADATA")


@dataclass(frozen=True, slots=True)
class Manifest:
    parts: Mapping[str, str]  # name -> SHA-256
    folders: Mapping[str, Mapping[str, str]]  # folder of the release -> path -> SHA-256
    units: Mapping[str, str]  # unit -> digest of all that it runs from

    @classmethod
    def read(cls, raw: bytes) -> Manifest:
        """Raises KeyError, TypeError or ValueError where it is no manifest."""
        begin, end = raw.find(_BEGIN) + len(_BEGIN), raw.rfind(_END)
        try:
            folders = dict(_folders(raw, begin, end))
            rest: dict[str, Any] = json.loads(raw[:begin] + raw[end:])
        except ValueError:
            return cls.read_any(raw)
        return cls(dict(rest["parts"]), folders, dict(rest["units"]))

    @classmethod
    def read_any(cls, raw: bytes) -> Manifest:
        """However its JSON is written."""
        data: dict[str, Any] = json.loads(raw)
        folders: dict[str, dict[str, str]] = {}
        for path, entry in data["files"].items():
            folders.setdefault(path.partition("/")[0], {})[path] = entry["sha256"]
        return cls(dict(data["parts"]), folders, dict(data["units"]))

    def sha256(self, path: str) -> str | None:
        return self.folders.get(path.partition("/")[0], {}).get(path)

    def packages(self) -> dict[str, str]:
        """The Python packages in lib/: name -> version."""
        found = (_PACKAGE.fullmatch(path) for path in self.folders.get("lib", ()))
        return {match[1]: match[2] for match in found if match}


def differences(old: Manifest, new: Manifest) -> Iterator[tuple[str, str | None, str | None]]:
    """The files that differ, sorted: path, SHA-256 before and after; None where there is no such file."""
    for name in sorted(old.folders.keys() | new.folders.keys()):
        before, after = old.folders.get(name, {}), new.folders.get(name, {})
        if before is not after:
            for path in sorted(before.keys() | after.keys()):
                if before.get(path) != after.get(path):
                    yield path, before.get(path), after.get(path)


def units_of(raw: bytes) -> dict[str, str]:
    """A manifest's units, without reading the rest: keys are sorted, and "units" is the last."""
    try:
        return dict(json.loads(b"{" + raw[raw.rindex(b'"units":{') :])["units"])
    except ValueError:
        return dict(json.loads(raw)["units"])


def _folders(raw: bytes, begin: int, end: int) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The files between the braces, folder by folder. Raises ValueError where they are written in another way."""
    if not len(_BEGIN) <= begin <= end:
        raise ValueError("not canonical")
    at = begin
    while at < end:
        name = raw[at : raw.index(b"/", at, end) + 1]  # with its quotation mark and slash
        known = _known.setdefault(name, deque(maxlen=RUNS))
        here = (it for it in known if raw.startswith(it[0], at) and not raw.startswith(b"," + name, at + len(it[0])))
        if (found := next(here, None)) is None:
            last = raw.rfind(b"}," + name, at, end)  # before the last file of this folder
            run = raw[at : raw.index(b"}", max(at, last + 1), end) + 1]
            found = run, _read(run)
            known.appendleft(found)
        run, files = found
        yield name[1:-1].decode(), files
        at += len(run) + 1


def _read(run: bytes) -> Mapping[str, str]:
    files = {path: entry["sha256"] for path, entry in json.loads(b"{" + run + b"}").items()}
    if len({path.partition("/")[0] for path in files}) != 1:
        raise ValueError("not sorted")
    return files
