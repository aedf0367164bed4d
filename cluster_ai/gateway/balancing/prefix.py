"""The beginning of what a model is to read, as a chain of hashes: two requests share as much as their chains do.

Each link is the hash of everything up to there, so a worker's cache is looked up by one number. The rendered prompt
itself isn't known here; but a template renders equal messages equally, and every API says the same conversation with
the same fields. A hash met by chance, or made on purpose, costs no more than a cache that isn't hit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BLOCK = 1024  # characters a link; long texts may differ only in their ends
LINKS = 256  # enough to tell conversations apart, and a bound on the cost
_NO_PROMPT = frozenset(("/api/embed", "/api/embeddings", "/v1/embeddings", "/api/show"))
_IMAGE = 3000  # an image's weight in characters: some 750 tokens


@dataclass(frozen=True, slots=True)
class Chain:
    """links: hashes, the last is that of everything. ends: how many characters each link covers, from the start."""

    links: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()


NOTHING = Chain()


class _Writer:
    def __init__(self, seed: object) -> None:
        self._last = hash(seed)
        self._size = 0
        self.links: list[int] = []
        self.ends: list[int] = []

    def text(self, kind: str, text: str) -> None:
        if len(text) <= BLOCK:
            self.add(hash((self._last, kind, text)), len(text))
            return
        for at in range(0, len(text), BLOCK):
            if len(self.links) >= LINKS:
                return
            block = text[at : at + BLOCK]
            self.add(hash((self._last, kind, block)), len(block))

    def add(self, link: int, size: int) -> None:
        self._last = link
        self._size += size
        self.links.append(link)
        self.ends.append(self._size)

    def any(self, kind: str, value: Any) -> None:
        """A text, a list of parts as OpenAI's and Anthropic's APIs have them, or whatever else."""
        if isinstance(value, str):
            self.text(kind, value)
        elif isinstance(value, list):
            if value and isinstance(value[0], int):
                self.numbers(kind, value)
                return
            for part in value:
                if len(self.links) >= LINKS:
                    return
                text = part.get("text") if isinstance(part, dict) else part
                if isinstance(text, str):
                    self.text(kind, text)
                else:
                    self.add(hash((self._last, kind, _digest(part))), _IMAGE)
        elif value is not None:
            self.written(kind, value)

    def written(self, kind: str, value: Any) -> None:
        written = repr(value)
        self.add(hash((self._last, kind, written)), len(written))

    def numbers(self, kind: str, tokens: list[Any]) -> None:
        """Tokens, as /api/generate's `context` has them; some four characters each."""
        for at in range(0, len(tokens), BLOCK // 4):
            if len(self.links) >= LINKS:
                return
            block = tokens[at : at + BLOCK // 4]
            self.add(hash((self._last, kind, repr(block))), 4 * len(block))

    def chain(self) -> Chain:
        return Chain(tuple(self.links[:LINKS]), tuple(self.ends[:LINKS]))


def chain(path: str, model: str, body: Mapping[str, Any]) -> Chain:
    """Of a request to one of the APIs; empty where nothing is generated. Takes any body that is a JSON object."""
    if path in _NO_PROMPT:
        return NOTHING
    try:
        return _chain(model, body)
    except RecursionError:  # nested too deeply for sense, and the engine's to refuse
        return NOTHING


def _chain(model: str, body: Mapping[str, Any]) -> Chain:
    writer = _Writer((model, repr(body.get("template")), repr(body.get("raw"))))
    for key in ("system", "instructions"):
        if body.get(key):
            writer.any("system", body[key])
    if body.get("tools"):
        writer.written("tools", body["tools"])
    messages = body.get("messages", body.get("input"))
    if isinstance(messages, list):
        for message in messages:
            if len(writer.links) >= LINKS:
                break
            _message(writer, message)
    else:
        writer.any("user", messages)
    for key in ("context", "images", "prompt"):
        if body.get(key):
            writer.any(key, body[key])
    return writer.chain()


def _message(writer: _Writer, message: Any) -> None:
    if not isinstance(message, dict):
        writer.any("user", message)
        return
    role = str(message.get("role"))
    writer.any(role, message.get("content"))
    for key in ("images", "tool_calls"):
        if message.get(key):
            writer.any(key, message[key])


def _digest(value: Any) -> int:
    """As hash(), of anything in JSON; an image's text isn't copied for it."""
    if isinstance(value, dict):
        return hash(tuple((key, _digest(inner)) for key, inner in value.items()))
    if isinstance(value, list):
        return hash(tuple(map(_digest, value)))
    return hash(value)
