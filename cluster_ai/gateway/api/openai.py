"""OpenAI's manners: how its errors look, how its streams end, and what tokens they took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

CHAT = "/v1/chat/completions"

# OpenAI's own types and codes, where it has one for the case; its clients choose their exceptions by status and code.
_TYPES = {403: "permission_error", 429: "rate_limit_error"}
_CODES = {"unauthorized": "invalid_api_key", "too_many_requests": "rate_limit_exceeded"}
_PARAMS = {
    "model_required": "model",
    "model_not_found": "model",
    "invalid_stream": "stream",
    "context_length_exceeded": "messages",
}
_DONE = b"data: [DONE]"
_ENDS = (b'"type":"response.completed"', b'"type":"response.failed"', b'"type":"response.incomplete"')
_ERROR = b'data: {"error":'
_NO_CHOICES = b'"choices":[]'


def error(status: int, code: str, message: str) -> dict[str, Any]:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    known = {"message": message, "type": kind, "param": _PARAMS.get(code), "code": _CODES.get(code, code)}
    return {"error": known}


def retold(status: int, body: bytes) -> bytes:
    """An engine's error as OpenAI would tell it: Ollama calls all of them 'api_error', and gives no code."""
    try:
        said = json.loads(body)["error"]
        message = said if isinstance(said, str) else said["message"]
    except (ValueError, TypeError, KeyError):
        message = body.decode(errors="replace").strip()[:500] or f"the engine answered {status} without a reason"
    return json.dumps(error(status, _code(status, str(message)), str(message)), ensure_ascii=False).encode()


def _code(status: int, message: str) -> str:
    if status == 404:
        return "model_not_found"
    if "context length" in message or "context size" in message:
        return "context_length_exceeded"
    return "invalid_request" if status < 500 else "engine_error"


def ends(tail: bytes) -> bool:
    """Whether a stream that ends so is whole: with its last event, or with an error that tells the client."""
    last = tail.rstrip().rpartition(b"\n")[2]
    return last == _DONE or last.startswith(_ERROR) or any(end in last[-400:] for end in _ENDS)


def wants_usage(value: Mapping[str, Any]) -> bool:
    options = value.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def for_engine(body: bytes, value: Mapping[str, Any], *, whole: bool) -> bytes:
    """The body of a chat completion as Ollama takes it.

    Of a stream it is to tell how many tokens it took, though the client didn't ask; and it doesn't know the newer of
    OpenAI's two names for the most tokens of an answer.
    """
    added: dict[str, Any] = {}
    options, most = value.get("stream_options"), value.get("max_completion_tokens")
    if not whole and not wants_usage(value) and (options is None or isinstance(options, dict)):
        added["stream_options"] = {**(options or {}), "include_usage": True}
    if most is not None and value.get("max_tokens") is None:
        added["max_tokens"] = most
    if not added:
        return body
    if added.keys().isdisjoint(value):  # spares the work of writing a long body anew
        return _text(added)[:-1] + b"," + body.lstrip(b" \t\r\n")[1:]
    return _text({**value, **added})


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


class WithoutUsage:
    """Keeps from the client the event of a stream that only we asked for: many a client wants a choice in each."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> bytes:
        """What of it may pass: whole events alone."""
        events = self._rest + piece if self._rest else piece
        if not events.endswith(b"\n\n"):
            end = events.rfind(b"\n\n") + 2 if b"\n\n" in events else 0
            events, self._rest = events[:end], events[end:]
        else:
            self._rest = b""
        if _NO_CHOICES in events:
            return b"".join(e + b"\n\n" for e in events.split(b"\n\n")[:-1] if _NO_CHOICES not in e)
        return events

    def end(self) -> bytes:
        return self._rest
