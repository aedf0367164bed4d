"""The small part of HTTP that the bare ASGI routes need: read a body, send an answer, word errors as each API does."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from enum import Enum
from typing import Any

from cluster_ai.gateway.api import anthropic, openai

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

BODY_LIMIT = 64 * 1024 * 1024
JSON = (b"content-type", b"application/json; charset=utf-8")


class Api(Enum):
    """Whose manners an answer has."""

    NATIVE = "native"
    OLLAMA = "ollama"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


def api_of(path: str) -> Api:
    if path.startswith("/v1/"):
        return Api.ANTHROPIC if path.startswith(anthropic.PREFIX) else Api.OPENAI
    return Api.NATIVE if path.startswith("/api/v1/") else Api.OLLAMA


class Refusal(Exception):  # noqa: N818 (an answer, not a fault)
    """A request ends here with this answer. code is for programs, message for people."""

    def __init__(self, status: int, code: str, message: str, headers: Iterable[Header] = ()) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, tuple(headers)


class ClientGone(Exception):  # noqa: N818
    """The client closed its connection."""


def error_body(api: Api, refusal: Refusal, request_id: str) -> dict[str, Any]:
    match api:
        case Api.OLLAMA:
            return {"error": refusal.message}
        case Api.OPENAI:
            return openai.error(refusal.status, refusal.code, refusal.message)
        case Api.ANTHROPIC:
            return anthropic.error(refusal.status, refusal.message, request_id)
        case Api.NATIVE:
            return {"error": {"code": refusal.code, "message": refusal.message}, "request_id": request_id}


def encode(value: Any) -> bytes:
    """Half a character (a lone surrogate), which JSON can hold and UTF-8 can't, becomes a question mark."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


async def read_body(receive: Receive, limit: int = BODY_LIMIT) -> bytes:
    """The whole body. Raises Refusal (413) above the limit and ClientGone."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message["body"]
    if not message["more_body"]:
        if len(body) > limit:
            raise _too_large(limit)
        return body
    parts, size = [body], len(body)
    while True:
        if size > limit:
            raise _too_large(limit)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message["body"])
        size += len(message["body"])
        if not message["more_body"] and size <= limit:
            return b"".join(parts)


def _too_large(limit: int) -> Refusal:
    text = f"the request body is larger than {limit // (1024 * 1024)} MiB"
    return Refusal(413, "body_too_large", text, [(b"connection", b"close")])


async def send_whole(send: Send, status: int, body: bytes, headers: Iterable[Header]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
