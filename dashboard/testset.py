"""Saved test prompts: templates at the gateway whose names begin with "test-", so that they outlast a session.

A template has no field for what an answer must contain; its description holds it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from dashboard.answers import Answer, Wish, generate
from dashboard.gateway import Caller, Gateway

PREFIX = "test-"
FIXED = {"temperature": 0, "seed": 0, "num_predict": 200}  # the same model answers the same


@dataclass(frozen=True, slots=True)
class TestPrompt:
    """expects: what the answer must contain, whatever its case; empty: any answer will do."""

    __test__ = False  # nothing of pytest's

    name: str
    text: str
    expects: str = ""
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    prompt: str  # its name
    model: str
    text: str
    passed: bool
    answer: Answer


def slug(name: str) -> str:
    """A name as the gateway takes it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.strip()).strip("-.")[:90]


def read(gateway: Gateway, caller: Caller) -> tuple[TestPrompt, ...]:
    """Their own, and those that an operator shares with everyone."""
    said = gateway.get("/api/v1/templates", caller)["templates"]
    return tuple(
        TestPrompt(it["name"].removeprefix(PREFIX), it["text"], it["description"], it["shared"])
        for it in said
        if it["name"].startswith(PREFIX)
    )


def save(gateway: Gateway, caller: Caller, prompt: TestPrompt) -> None:
    body = {"text": prompt.text, "description": prompt.expects, "shared": prompt.shared}
    gateway.send("PUT", _path(prompt), caller, body)


def delete(gateway: Gateway, caller: Caller, prompt: TestPrompt) -> None:
    shared = "?shared=true" if prompt.shared else ""
    gateway.send("DELETE", _path(prompt) + shared, caller)


def ask(gateway: Gateway, caller: Caller, model: str, prompt: TestPrompt) -> Outcome:
    """With nothing left to chance. Raises what `generate` does."""
    text: list[str] = []
    for piece in generate(gateway, caller, model, prompt.text, Wish(options=FIXED)):
        if isinstance(piece, Answer):
            said = "".join(text)
            return Outcome(prompt.name, model, said, prompt.expects.casefold() in said.casefold(), piece)
        text.append(piece)
    raise AssertionError("generate ends with an Answer")


def _path(prompt: TestPrompt) -> str:
    return f"/api/v1/templates/{quote(PREFIX + prompt.name, safe='')}"
