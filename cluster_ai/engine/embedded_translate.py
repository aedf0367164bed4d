"""Ollama's requests in llama.cpp's terms, and llama.cpp's answers in Ollama's. Pure: no I/O, no clock.

What is refused, is refused with the status and, where clients look at them, the words of Ollama 0.17.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Kind = Literal["chat", "generate"]
Message = dict[str, str]

# Ollama's option -> llama.cpp's field and type. Ollama's other options are about loading, which is over by then.
_OPTIONS: dict[str, tuple[str, type[int] | type[float]]] = {
    "seed": ("seed", int),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "min_p": ("min_p", float),
    "typical_p": ("typical_p", float),
    "temperature": ("temperature", float),
    "repeat_last_n": ("repeat_last_n", int),
    "repeat_penalty": ("repeat_penalty", float),
    "presence_penalty": ("presence_penalty", float),
    "frequency_penalty": ("frequency_penalty", float),
}
_DEFAULTS = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "repeat_last_n": 64, "repeat_penalty": 1.1}


class RefusedError(Exception):
    """A request that is answered with an error; the status and the text go to the client."""

    def __init__(self, status: int, error: str) -> None:
        self.status, self.error = status, error
        super().__init__(error)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for text."""

    kind: Kind
    model: str  # as the client wrote it: answers repeat it
    messages: tuple[Message, ...]  # empty where `raw` is what the model reads
    raw: str | None
    stream: bool
    fields: Mapping[str, Any]  # for llama.cpp
    num_predict: int  # below 0: until the model ends, or the context is full
    num_ctx: int | None
    truncate: bool  # whether the oldest messages may go where a conversation outgrows the context

    @property
    def only_loads(self) -> bool:
        return not self.messages and not self.raw


def body(data: bytes) -> dict[str, Any]:
    if not data:
        raise RefusedError(400, "missing request body")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"invalid JSON: {error}") from error
    if not isinstance(value, dict):
        raise RefusedError(400, "the request body must be a JSON object")
    return value


def model_of(request: Mapping[str, Any]) -> str:
    name = request.get("model", request.get("name", ""))
    if not isinstance(name, str):
        raise RefusedError(400, "model must be a string")
    return name


def canonical(name: str) -> str:
    """Names without a tag mean the tag `latest`; case doesn't count."""
    return (name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest").lower()


def unknown_model(name: str) -> RefusedError:
    return RefusedError(404, f"model '{name}' not found") if name else RefusedError(400, "model is required")


def ask(kind: Kind, request: Mapping[str, Any]) -> Ask:
    name = model_of(request)
    options = request.get("options") or {}
    if not isinstance(options, dict):
        raise RefusedError(400, "options must be an object")
    if request.get("images") or request.get("suffix") or request.get("tools"):
        asked = "image input" if request.get("images") else "tools" if request.get("tools") else "insert"
        raise RefusedError(400, f'"{name}" does not support {asked}')
    stream = request.get("stream")
    if not isinstance(stream, bool | None):
        raise RefusedError(400, "stream must be a boolean")
    raw: str | None = None
    if kind == "chat":
        messages = _messages(request.get("messages") or [], name)
    else:
        prompt, system = _text(request, "prompt"), _text(request, "system")
        turns = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": prompt}]
        raw = prompt if request.get("raw") else None
        messages = tuple(turns) if prompt and raw is None else ()
    return Ask(
        kind=kind,
        model=name,
        messages=messages,
        raw=raw,
        stream=stream is not False,
        fields=_fields(options) | _format(request.get("format")),
        num_predict=_number(options, "num_predict", int, -1),
        num_ctx=_number(options, "num_ctx", int, 0) or None,
        truncate=request.get("truncate") is not False,
    )


def shortened(messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
    """Without the oldest message that can be spared, as Ollama does where a conversation outgrows the context."""
    for index, message in enumerate(messages[:-1]):
        if message["role"] != "system":
            return messages[:index] + messages[index + 1 :]
    return None


def completion(ask: Ask, prompt: str, room: int) -> dict[str, Any]:
    """The body for llama.cpp's /completion; room is how many tokens the context still has after the prompt."""
    limit = room if ask.num_predict < 0 else min(ask.num_predict, room)
    return {**ask.fields, "prompt": prompt, "n_predict": limit, "stream": True}


def chunk(ask: Ask, text: str, now: datetime) -> dict[str, Any]:
    return {"model": ask.model, "created_at": stamp(now), **_said(ask.kind, text), "done": False}


def last(ask: Ask, text: str, final: Mapping[str, Any], now: datetime, total: float, load: float) -> dict[str, Any]:
    """The line that ends an answer. total and load are seconds; llama.cpp's timings are in ms, Ollama's in ns."""
    timings = final.get("timings", {})
    return {
        "model": ask.model,
        "created_at": stamp(now),
        **_said(ask.kind, text),
        "done": True,
        "done_reason": "length" if final.get("stop_type") == "limit" else "stop",
        "total_duration": int(total * 1e9),
        "load_duration": int(load * 1e9),
        "prompt_eval_count": final.get("tokens_evaluated", 0),
        "prompt_eval_duration": int(timings.get("prompt_ms", 0) * 1e6),
        "eval_count": final.get("tokens_predicted", 0),
        "eval_duration": int(timings.get("predicted_ms", 0) * 1e6),
    }


def loaded(ask: Ask, now: datetime) -> dict[str, Any]:
    """The answer to a request without a prompt: the model is in memory."""
    return {"model": ask.model, "created_at": stamp(now), **_said(ask.kind, ""), "done": True, "done_reason": "load"}


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _said(kind: Kind, text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}} if kind == "chat" else {"response": text}


def _messages(value: Any, name: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise RefusedError(400, "messages must be an array")
    turns = []
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("role"), str):
            raise RefusedError(400, "each of messages must be an object with a role")
        if item.get("images"):
            raise RefusedError(400, f'"{name}" does not support image input')
        turns.append({"role": item["role"], "content": _text(item, "content")})
    return tuple(turns)


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise RefusedError(400, f"{key} must be a string")
    return text


def _fields(options: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = dict(_DEFAULTS)
    for name, (field, kind) in _OPTIONS.items():
        if options.get(name) is not None:
            fields[field] = _number(options, name, kind, 0)
    stop = options.get("stop")
    if stop is not None:
        words = [stop] if isinstance(stop, str) else stop
        if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
            raise RefusedError(400, 'option "stop" must be of type array of strings')
        fields["stop"] = [w for w in words if w]
    return fields


def _number(options: Mapping[str, Any], name: str, kind: type[int] | type[float], default: int) -> Any:
    value = options.get(name)
    if value is None:
        return default
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (kind is int and value != int(value)):
        raise RefusedError(400, f'option "{name}" must be of type {"integer" if kind is int else "float32"}')
    return kind(value)


def _format(value: Any) -> dict[str, Any]:
    if value in (None, ""):
        return {}
    if value == "json":
        return {"json_schema": {"type": "object"}}
    if isinstance(value, dict):
        return {"json_schema": value}
    raise RefusedError(400, 'invalid format: expected "json" or a JSON schema')
