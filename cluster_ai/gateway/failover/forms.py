"""The streams of each API: what they said so far, and how another engine's words go on in the same form. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

from cluster_ai.gateway.failover.said import Said, UnresumableError, objects


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the whole answer, whoever gave its parts; durations in nanoseconds, as Ollama tells them."""

    prompt: int
    tokens: int
    total: int = 0
    load: int = 0
    prompt_time: int = 0
    time: int = 0


class Form(Protocol):
    separator: ClassVar[bytes]  # ends an object
    over: ClassVar[bytes]  # what only the last object of a whole stream has in it

    def said(self, raw: bytes) -> Said:
        """Of whole objects. Raises UnresumableError where they say more than text."""
        ...

    def piece(self, said: Said, text: str) -> bytes: ...

    def last(self, said: Said, finish: str, counts: Counts, *, usage: bool) -> bytes:
        """The end of the stream after said, of which the finish may have been told already."""
        ...


class _Ollama:
    separator: ClassVar[bytes] = b"\n"
    over: ClassVar[bytes] = b'"done":true'

    def __init__(self, read: Callable[[Mapping[str, Any]], tuple[str, bool]], write: Callable[[str], dict[str, Any]]):
        self._read, self._write = read, write

    def said(self, raw: bytes) -> Said:
        pieces: list[str] = []
        head: dict[str, Any] = {}
        finish = ""
        for it in objects(raw):
            head = head or {"model": it.get("model")}
            text, more = self._read(it)
            if more or it.get("logprobs"):
                raise UnresumableError("it has said more than text: thoughts, or a call of a tool")
            if text:
                pieces.append(text)
            if it.get("done"):
                finish = str(it.get("done_reason") or "stop")
        return Said(tuple(pieces), head, finish)

    def piece(self, said: Said, text: str) -> bytes:
        return _line({**said.head, "created_at": _now(), **self._write(text), "done": False})

    def last(self, said: Said, finish: str, counts: Counts, *, usage: bool) -> bytes:
        return _line(
            {
                **said.head,
                "created_at": _now(),
                **self._write(""),
                "done": True,
                "done_reason": finish,
                "total_duration": counts.total,
                "load_duration": counts.load,
                "prompt_eval_count": counts.prompt,
                "prompt_eval_duration": counts.prompt_time,
                "eval_count": counts.tokens,
                "eval_duration": counts.time,
            }
        )


def _chat_text(it: Mapping[str, Any]) -> tuple[str, bool]:
    message = it.get("message")
    if not isinstance(message, dict):
        return "", False
    return str(message.get("content") or ""), bool(message.get("thinking") or message.get("tool_calls"))


def _generate_text(it: Mapping[str, Any]) -> tuple[str, bool]:
    return str(it.get("response") or ""), bool(it.get("thinking") or it.get("tool_calls"))


class _OpenAI:
    separator: ClassVar[bytes] = b"\n\n"
    over: ClassVar[bytes] = b"data: [DONE]\n\n"

    def __init__(self, *, chat: bool) -> None:
        self._chat = chat

    def said(self, raw: bytes) -> Said:
        pieces: list[str] = []
        head: dict[str, Any] = {}
        finish = ""
        for it in objects(raw):
            head = head or {k: v for k, v in it.items() if k not in ("choices", "usage", "created")}
            for choice in it.get("choices") or ():
                text, more = self._read(choice)
                if more or choice.get("logprobs"):
                    raise UnresumableError("it has said more than text: thoughts, or a call of a tool")
                if text:
                    pieces.append(text)
                finish = str(choice.get("finish_reason") or finish)
        return Said(tuple(pieces), head, finish)

    def _read(self, choice: Mapping[str, Any]) -> tuple[str, bool]:
        if not self._chat:
            return str(choice.get("text") or ""), False
        delta = choice.get("delta") or {}
        return str(delta.get("content") or ""), bool(delta.get("reasoning") or delta.get("tool_calls"))

    def piece(self, said: Said, text: str) -> bytes:
        return _event(self._chunk(said, [self._choice(text, None)]))

    def last(self, said: Said, finish: str, counts: Counts, *, usage: bool) -> bytes:
        told = b"" if said.finish else _event(self._chunk(said, [self._choice("", finish)]))
        if usage:
            used = {
                "prompt_tokens": counts.prompt,
                "completion_tokens": counts.tokens,
                "total_tokens": counts.prompt + counts.tokens,
            }
            told += _event({**self._chunk(said, []), "usage": used})
        return told + b"data: [DONE]\n\n"

    def _chunk(self, said: Said, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**said.head, "created": int(datetime.now(UTC).timestamp()), "choices": choices}

    def _choice(self, text: str, finish: str | None) -> dict[str, Any]:
        if self._chat:
            return {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
        return {"text": text, "index": 0, "finish_reason": finish}


class _Anthropic:
    separator: ClassVar[bytes] = b"\n\n"
    over: ClassVar[bytes] = b'"type":"message_stop"'

    _REASONS: ClassVar[dict[str, str]] = {"length": "max_tokens"}

    def said(self, raw: bytes) -> Said:
        pieces, finish, is_open = [], "", False
        for it in objects(raw):
            match it.get("type"):
                case "content_block_start":
                    is_open = (it.get("content_block") or {}).get("type") == "text"
                    if not is_open:
                        raise UnresumableError("it has said more than text: thoughts, or a call of a tool")
                case "content_block_delta":
                    pieces.append(str((it.get("delta") or {}).get("text") or ""))
                case "content_block_stop":
                    is_open, finish = False, "stop"
        return Said(tuple(p for p in pieces if p), {}, finish, is_open)

    def piece(self, said: Said, text: str) -> bytes:
        begin = b"" if said.open else _named("content_block_start", content_block={"type": "text", "text": ""})
        return begin + _named("content_block_delta", delta={"type": "text_delta", "text": text})

    def last(self, said: Said, finish: str, counts: Counts, *, usage: bool) -> bytes:
        end = _named("content_block_stop") if said.open else b""
        reason = self._REASONS.get(finish, "end_turn")
        used = {"input_tokens": counts.prompt, "output_tokens": counts.tokens}
        delta = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": used}
        return (
            end + b"event: message_delta\n" + _event(delta) + b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        )


FORMS: Mapping[str, Form] = {
    "/api/chat": _Ollama(_chat_text, lambda text: {"message": {"role": "assistant", "content": text}}),
    "/api/generate": _Ollama(_generate_text, lambda text: {"response": text}),
    "/v1/chat/completions": _OpenAI(chat=True),
    "/v1/completions": _OpenAI(chat=False),
    "/v1/messages": _Anthropic(),
}


def _named(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\n".encode() + _event({"type": kind, "index": 0, **more})


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + _json(value) + b"\n\n"


def _line(value: Mapping[str, Any]) -> bytes:
    return _json(value) + b"\n"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
