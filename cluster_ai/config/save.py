"""Changes of cluster.yaml: comments and order stay, all or nothing, with a dated copy of what was there."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import stat
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.scalarstring import ScalarString, SingleQuotedScalarString

from cluster_ai.config.document import Document, KeyPath, key_path, read
from cluster_ai.config.forms import FORMS
from cluster_ai.config.load import read_text
from cluster_ai.config.schema import rules_at
from cluster_ai.errors import ConfigError

_PART = re.compile(r"(?:^|\.)([A-Za-z0-9_-]+)|\[([^\[\]]+)\]")


def set_value(path: Path, key: str, value: str, check: Callable[[str], object]) -> Path | None:
    """Change one key in the file and return the backup; None when the file says so already.

    check gets the new text and raises when it must not be written.
    """
    text = read_text(path)
    new = changed(text, path, key, value)
    check(new)
    if read(text, path).data == read(new, path).data:
        return None
    return write(path, new)


def changed(text: str, path: Path, key: str, value: str) -> str:
    """The text with one key set. Sections on the way to it that don't exist yet are made."""
    document = read(text, path)
    at = resolve(key, document)
    round_trip = _round_trip(document)
    data = round_trip.load(text)
    place: Any = data
    for part, following in itertools.pairwise(at):
        if isinstance(place, dict) and place.get(part) is None and isinstance(following, str):
            place[part] = CommentedMap()
        try:
            place = place[part]
        except (KeyError, TypeError, IndexError):
            raise ConfigError(f"{key_path(at)}: nothing stands at {part!r} yet", where=str(path)) from None
    last: Any = at[-1]
    if not isinstance(place, list if isinstance(last, int) else dict):
        raise ConfigError(f"{key_path(at[:-1])} has no keys", where=document.where(at[:-1]))
    old = place.get(last) if isinstance(place, dict) else place[last]
    place[last] = _styled(_parsed(value, at), old)
    out = io.StringIO()
    round_trip.dump(data, out)
    return out.getvalue()


def resolve(key: str, document: Document) -> KeyPath:
    """`cluster.models[llama2:13b].replicas` as a path. An item of a list is named by its number or its name."""
    parts: list[str | int] = []
    position, place = 0, document.data
    while position < len(key):
        match = _PART.match(key, position)
        if not match:
            remedy = "write it like cluster.gateway.port or cluster.models[llama2:13b].replicas"
            raise ConfigError(f"not a key: {key!r}", remedy=remedy)
        position = match.end()
        name, item = match.groups()
        part: Any = name if name is not None else _item(item, place, parts, document)
        parts.append(part)
        place = place.get(part) if isinstance(place, dict) else place[part] if isinstance(place, list) else None
    if not parts:
        raise ConfigError("no key is named", remedy="write it like cluster.gateway.port")
    return tuple(parts)


def write(path: Path, text: str) -> Path:
    """Put a text in the file's place, whole or not at all, and return the backup of what was there."""
    target = path.resolve()
    try:
        backup = _back_up(target)
        _replace(target, text)
    except OSError as error:
        raise ConfigError(f"can't be written: {error.strerror}", where=str(path)) from error
    return backup


def _replace(target: Path, text: str) -> None:
    mode = stat.S_IMODE(target.stat().st_mode)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def backups(path: Path) -> list[Path]:
    """The file's backups, the newest first."""
    target = path.resolve()
    pattern = re.compile(re.escape(target.name) + r"\.(\d{8}-\d{6})(?:-(\d+))?\.bak")
    found = [(match, file) for file in target.parent.iterdir() if (match := pattern.fullmatch(file.name))]
    return [file for _, file in sorted(found, key=lambda it: (it[0].group(1), int(it[0].group(2) or 0)), reverse=True)]


def restore(path: Path, backup: str | None = None) -> tuple[Path, Path]:
    """Put a backup (its name or path; the newest) in the file's place. Returns it, and the backup of what was there."""
    there = backups(path)
    if backup is None and not there:
        raise ConfigError("has no backup", where=str(path), remedy="cluster-ai config set makes one before each change")
    chosen = there[0] if backup is None else Path(backup)
    if not chosen.is_file():
        chosen = path.resolve().parent / chosen.name
    if not chosen.is_file():
        raise ConfigError(
            f"there is no backup {backup!r}", where=str(path), remedy="see: cluster-ai config restore --list"
        )
    text = read_text(chosen)
    return chosen, write(path, text)


def _item(item: str, place: Any, parts: list[str | int], document: Document) -> int:
    if not isinstance(place, list):
        raise ConfigError(f"{key_path(tuple(parts))} is not a list", where=document.where(tuple(parts)))
    names = [str(entry.get("name")) if isinstance(entry, dict) else str(entry) for entry in place]
    if item in names:
        return names.index(item)
    if item.isdigit() and int(item) < len(place):
        return int(item)
    what = (
        f"{key_path(tuple(parts))}: found no item {item!r}, allowed: {', '.join(names)}, or a number below {len(place)}"
    )
    raise ConfigError(what, where=document.where(tuple(parts)))


def _parsed(value: str, at: KeyPath) -> Any:
    """A value of the command line, read as YAML; as text where the key wants text and YAML would read a number."""
    rules = rules_at(at)
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        return value
    if isinstance(parsed, str) or parsed is None:
        return value
    fits = FORMS[rules["form"]].test if "form" in rules else None
    text_only = rules.get("type") == "string" or (fits is not None and fits(value) and not fits(parsed))
    return SingleQuotedScalarString(value) if text_only else parsed


def _styled(value: Any, old: Any) -> Any:
    """Text in the quotes that were there."""
    return type(old)(value) if isinstance(value, str) and isinstance(old, ScalarString) else value


def _round_trip(document: Document) -> YAML:
    """ruamel.yaml, set to indent as the file does."""
    round_trip = YAML()
    round_trip.preserve_quotes = True
    round_trip.width = 4096
    mapping, offset = 2, 2
    for path, (_, column) in document.keys.items():
        value = document.values[path]
        inner = next((document.keys[p] for p in document.keys if len(p) == len(path) + 1 and p[:-1] == path), None)
        if len(path) == 1 and inner and inner[0] > document.keys[path][0]:
            mapping = inner[1] - column
        if path == ("cluster", "workers") and value[0] > document.keys[path][0]:
            offset = value[1] - column
    round_trip.indent(mapping=mapping, sequence=offset + 2, offset=offset)
    return round_trip


def _back_up(path: Path) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")  # the clock on the wall is what people look for
    mode = stat.S_IMODE(path.stat().st_mode)
    for number in range(1000):
        backup = path.with_name(f"{path.name}.{stamp}{f'-{number}' if number else ''}.bak")
        try:
            descriptor = os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "wb") as file:
            file.write(path.read_bytes())
            file.flush()
            os.fsync(file.fileno())
        return backup
    raise ConfigError("has a thousand backups of this second", where=str(path))
