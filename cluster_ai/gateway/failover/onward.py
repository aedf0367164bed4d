"""Another engine's raw words, as the continuation of what a client has been told. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cluster_ai.gateway.failover.forms import Counts, Form
from cluster_ai.gateway.failover.said import Said

_NS = 1e9


@dataclass(frozen=True, slots=True)
class Before:
    """What the engines before this one did. prompt: tokens of the rendered prompt, where they were counted."""

    tokens: int
    seconds: float  # of streaming
    prompt: int | None = None


class Onward:
    """Fed the answer of /api/generate with raw, gives what the client gets. elapsed: seconds since it asked."""

    def __init__(self, form: Form, said: Said, before: Before, elapsed: Callable[[], float], *, usage: bool) -> None:
        self._form, self._said, self._before, self._elapsed, self._usage = form, said, before, elapsed, usage
        self._rest = b""
        self.over = False
        self.error = ""  # what the engine said when it gave up

    def feed(self, piece: bytes) -> bytes:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return b"".join(self._line(line) for line in lines if line.strip() and not (self.over or self.error))

    def _line(self, line: bytes) -> bytes:
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            self.error = "it sent what is no JSON object"
            return b""
        if told.get("error"):
            self.error = str(told["error"])
            return b""
        out, text = b"", str(told.get("response") or "")
        if text:
            out = self._form.piece(self._said, text)
            if not self._said.open:
                self._said = replace(self._said, open=True)
        if told.get("done"):
            self.over = True
            out += self._form.last(
                self._said, str(told.get("done_reason") or "stop"), self._counts(told), usage=self._usage
            )
        return out

    def _counts(self, told: dict[str, Any]) -> Counts:
        def number(name: str) -> int:
            value = told.get(name)
            return int(value) if isinstance(value, (int, float)) else 0

        return Counts(
            prompt=self._before.prompt or max(number("prompt_eval_count") - self._before.tokens, 0),
            tokens=self._before.tokens + number("eval_count"),
            total=round(self._elapsed() * _NS),
            load=number("load_duration"),
            prompt_time=number("prompt_eval_duration"),
            time=round(self._before.seconds * _NS) + number("eval_duration"),
        )
