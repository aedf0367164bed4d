"""Anthropic's manners, as far as Ollama has its API: how errors look, and how a stream ends."""

from __future__ import annotations

from typing import Any

PREFIX = "/v1/messages"
COUNT = "/v1/messages/count_tokens"

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def error(status: int, message: str, request_id: str) -> dict[str, Any]:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def ends(tail: bytes) -> bool:
    """Whether a stream that ends so is whole: with its last event, or with an error that tells the client."""
    last = tail.rstrip().rpartition(b"\n")[2]
    return last.startswith(b"data:") and (b'"type":"message_stop"' in last or b'"type":"error"' in last)
