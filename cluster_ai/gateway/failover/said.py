"""What a client has been told of an answer, read from the bytes that it was sent. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

LOOPED = 30  # equal pieces in a row, after which Ollama itself gives up a model that repeats itself, without a word


class UnresumableError(Exception):
    """A stream that broke can't go on elsewhere; reason: why, for its client."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Said:
    """pieces: the texts, none of them empty. head: the first object, with the names that the others must bear too."""

    pieces: tuple[str, ...]
    head: dict[str, Any] = field(default_factory=dict)
    finish: str = ""  # why it ended, where its end has been told already
    open: bool = False  # it is within a block of text that must be ended (Anthropic's form)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def looped(self) -> bool:
        tail = {piece.strip() for piece in self.pieces[-LOOPED:]}
        return len(self.pieces) >= LOOPED and len(tail) == 1


def doubtful(pieces: Iterable[str], stops: Sequence[str]) -> bool:
    """Whether a piece may be more than one token.

    Engines send each token as a piece of its own, but hold back what isn't a whole character yet, and what may become
    a stop sequence.
    """
    begins = {stop[0] for stop in stops if stop}
    return any(not piece.isascii() or any(c in begins for c in piece[:-1]) for piece in pieces)


def objects(raw: bytes) -> Iterator[dict[str, Any]]:
    """Of NDJSON and of server-sent events alike. Raises UnresumableError where they are no JSON."""
    for line in raw.splitlines():
        body = line.removeprefix(b"data:").strip()
        if not body.startswith(b"{"):  # an empty line, an event's name, [DONE]
            continue
        try:
            yield json.loads(body)
        except ValueError as e:
            raise UnresumableError("the engine sent what is no JSON") from e
