"""Test prompts: what a model must still be able to answer after a rollout. They are kept at the gateway, as templates
whose names begin with "test-" and whose description is what the answer must contain; the dashboard's playground edits
them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster_ai.bench.measure import Stream

PREFIX = "test-"
OPTIONS = {"temperature": 0, "seed": 0, "num_predict": 200}  # the same model answers the same


@dataclass(frozen=True, slots=True)
class Prompt:
    """expects: what the answer must contain, whatever its case; empty: any answer will do."""

    name: str
    text: str
    system: str | None
    expects: str


@dataclass(frozen=True, slots=True)
class Answered:
    at: float  # since 1970
    model: str
    prompt: str  # its name
    expects: str
    text: str
    passed: bool


def saved(templates: Iterable[Mapping[str, Any]]) -> list[Prompt]:
    """Those among the gateway's templates."""
    return [
        Prompt(it["name"].removeprefix(PREFIX), it["text"], it["system"], it["description"])
        for it in templates
        if it["name"].startswith(PREFIX)
    ]


def ask(stream: Stream, model: str, prompt: Prompt) -> Answered:
    """Raises UnavailableError: what the gateway says against it."""
    body = {"model": model, "prompt": prompt.text, "stream": True, "options": OPTIONS}
    if prompt.system is not None:
        body["system"] = prompt.system
    text = "".join(piece.get("response", "") for piece in stream("/api/generate", body, ""))
    passed = prompt.expects.casefold() in text.casefold()
    return Answered(time.time(), model, prompt.name, prompt.expects, text, passed)


def changed(answer: Answered, earlier: Sequence[Answered]) -> bool | None:
    """Whether this model said something else the last time; None: it was not asked before."""
    same = (it for it in reversed(earlier) if (it.model, it.prompt) == (answer.model, answer.prompt))
    last = next(same, None)
    return None if last is None else last.text != answer.text
