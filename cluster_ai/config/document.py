"""YAML as plain data, with the line and column of every key and value: so that an error can point at its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cluster_ai.errors import ClusterAIError, ConfigError, ErrorGroup

KeyPath = tuple[str | int, ...]

DEEPEST = 50  # levels: the parser in C ends the whole process where there are too many
MOST = 100_000  # values, with what aliases repeat: a few lines can stand for millions

_LONGEST = 200  # characters of a value that a message shows
_REMEDIES = {
    "mapping values are not allowed in this context": "put a text with ': ' in quotes, or mend the indentation",
    "found character that cannot start any token": "put a text that begins so in quotes",
}
_ABOVE = "look above it too: for a quote or a bracket that isn't closed, or an indentation that differs"

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says. Lines and columns count from 1."""

    path: Path
    data: Any = None
    keys: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    values: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    source: dict[KeyPath, str] = field(default_factory=dict)  # scalars as they are written

    def where(self, path: KeyPath, *, key: bool = False) -> str:
        """file:line:column of a value (or of its key), or of the nearest thing around it that is in the file."""
        if key and path in self.keys:
            return self._place(self.keys[path])
        while path and path not in self.values:
            path = path[:-1]
        return self._place(self.values.get(path, (1, 1)))

    def _place(self, position: tuple[int, int]) -> str:
        return f"{self.path}:{position[0]}:{position[1]}"


def read(text: str, path: Path) -> Document:
    """Read one YAML document. Raises ConfigError, or ErrorGroup for several duplicate keys."""
    document = Document(path)
    try:
        _refuse_deep(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            reader = _Reader(document, loader)
            data = reader.value(node, ()) if node else None
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, path) from error
    if reader.errors:
        raise reader.errors[0] if len(reader.errors) == 1 else ErrorGroup(reader.errors)
    return Document(path, data, document.keys, document.values, document.source)


def key_path(path: KeyPath) -> str:
    """cluster.workers[0].resources"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class _Reader:
    """Turns nodes into data, and writes down where each stands."""

    def __init__(self, document: Document, loader: Any) -> None:
        self.document, self.loader = document, loader
        self.errors: list[ClusterAIError] = []
        self._around: list[yaml.Node] = []
        self._seen = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.document.values[path] = _position(node)
        self._count(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"):
            raise yaml.constructor.ConstructorError(None, None, f"unknown tag {node.tag}", node.start_mark)
        if any(node is outer for outer in self._around):
            raise yaml.constructor.ConstructorError(
                None, None, "an alias stands inside of what it names", node.start_mark
            )
        self._around.append(node)
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            assert isinstance(node, yaml.MappingNode)
            return self._mapping(node, path)
        finally:
            self._around.pop()

    def _count(self, node: yaml.Node) -> None:
        self._seen += 1
        if self._seen > MOST or len(self._around) > DEEPEST:
            told = f"nested more than {DEEPEST} levels deep" if self._seen <= MOST else f"more than {MOST} values"
            raise yaml.constructor.ConstructorError(None, None, f"{told}, with what aliases repeat", node.start_mark)

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        self.document.source[path] = node.value
        try:
            return self.loader.construct_object(node)
        except ValueError as error:  # such as 2026-13-45
            raise yaml.constructor.ConstructorError(
                None, None, f"can't read {clipped(node.value)!r}: {error}", node.start_mark
            ) from error

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str | int, Any]:
        result: dict[str | int, Any] = {}
        for key_node, value_node in self._pairs(node):
            key = self._key(key_node)
            here = (*path, key)
            if key in result:
                first = self.document.keys[here]
                what = f"{key_path(here)}: the key stands here a second time; the first is in line {first[0]}"
                line, column = _position(key_node)
                self.errors.append(
                    ConfigError(what, where=f"{self.document.path}:{line}:{column}", remedy="keep one of them")
                )
                continue
            self.document.keys[here] = _position(key_node)
            result[key] = self.value(value_node, here)
        return result

    def _pairs(self, node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """The pairs of a mapping; what `<<` merges in comes last and never under a key of the mapping's own."""
        merges = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
        own = [(key, value) for key, value in node.value if key.tag != "tag:yaml.org,2002:merge"]
        yield from own
        taken = {key.value for key, _ in own}
        for merge in merges:
            for mapping in merge.value if isinstance(merge, yaml.SequenceNode) else [merge]:
                if not isinstance(mapping, yaml.MappingNode) or any(mapping is outer for outer in self._around):
                    raise yaml.constructor.ConstructorError(None, None, "<< needs another mapping", merge.start_mark)
                self._count(mapping)
                for key, value in self._pairs(mapping):
                    if key.value not in taken:
                        taken.add(key.value)
                        yield key, value

    def _key(self, node: yaml.Node) -> str | int:
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", node.start_mark)
        return str(node.value)


def _position(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _refuse_deep(text: str) -> None:
    depth = 0
    events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            told = f"nested more than {DEEPEST} levels deep"
            raise yaml.composer.ComposerError(None, None, told, event.start_mark)


def clipped(text: str) -> str:
    """What a message shows of a value that somebody wrote."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _syntax_error(error: yaml.YAMLError, text: str, path: Path) -> ConfigError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    if mark and "".join(text.split("\n")[mark.line : mark.line + 1])[mark.column :].startswith("\t"):
        return ConfigError("not valid YAML: a tab stands here", where=where, remedy="indent with spaces alone")
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    context, begun = getattr(error, "context", None), getattr(error, "context_mark", None)
    remedy = _REMEDIES.get(problem, "")
    if mark and context and begun and begun.line < mark.line:
        context += f" that begins in line {begun.line + 1}"
        remedy = remedy or _ABOVE
    return ConfigError(f"not valid YAML: {problem}" + (f" ({context})" if context else ""), where=where, remedy=remedy)
