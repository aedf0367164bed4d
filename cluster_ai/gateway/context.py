"""Prompts that are longer than their model's context: cut and told of, or refused; never cut in silence.

Ollama cuts them and doesn't say so, unless it is asked not to (`truncate: false`): then it counts, and refuses. So it
is asked not to, always; where it refuses and the cluster cuts, it is asked again, and the answer says so in a header.
OpenAI's and Anthropic's requests have no such word: where one may be too long (a token is a byte at least), the engine
is asked for one token to the same prompt in its own API before, which it then still has in its cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol

from cluster_ai.gateway.api.http import Header, Refusal
from cluster_ai.gateway.balancing import Wish
from cluster_ai.gateway.calls import STRICT, Call
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.relay import Relay, Reply

CUT: Header = (b"x-cluster-context", b"truncated")
_TOO_LONG = (b"context length", b"the context only", b"context size")  # Ollama; the embedded engine; llama.cpp
_OWN = frozenset(("/api/chat", "/api/generate", "/api/embed"))


class Told(Protocol):
    """Of a trace."""

    headers: list[Header]
    cut: bool


def too_long(status: int, body: bytes) -> bool:
    """Whether an engine refused a prompt for its length."""
    return status == 400 and any(words in body[:2000] for words in _TOO_LONG)


class Contexts:
    """Opens calls. on_long: told the model of each prompt that was too long."""

    def __init__(
        self, fleet: Fleet, relay: Relay, mode: Literal["truncate", "refuse"], on_long: Callable[[str], None]
    ) -> None:
        self._fleet, self._relay, self._mode, self._on_long = fleet, relay, mode, on_long

    async def open(self, call: Call, trace: Told) -> Reply:
        """As Relay.open. Raises Refusal (400) where the prompt is too long and the cluster refuses such."""
        if call.path not in _OWN:
            return await self._relay.open(await self._probed(call, trace))
        reply = await self._relay.open(call)
        if not too_long(reply.status, reply.first) or STRICT not in call.body[:64]:
            return reply
        reply.close()
        self._is_long(call, trace)
        return await self._relay.open(replace(call, body=call.body.replace(STRICT, b"", 1)))

    async def _probed(self, call: Call, trace: Told) -> Call:
        """Asks beforehand, where it may be too long; the call then rather goes where its prompt is known."""
        limit = self._limit(call.model)
        if limit is None or len(call.body) <= limit:
            return call
        probe = as_own(call.path, call.value)
        if probe is None or size(probe[1]) <= limit:
            return call
        path, asked = probe
        body = json.dumps(asked, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
        reply = await self._relay.open(
            Call(path, call.model, call.asked, body, whole=True, value=asked, wish=call.wish)
        )
        reply.close()
        if too_long(reply.status, reply.first):
            self._is_long(call, trace)
        wish = call.wish
        if wish.worker or wish.policy:
            return call
        return replace(call, wish=Wish(prefer=frozenset((reply.worker.name,))))

    def _is_long(self, call: Call, trace: Told) -> None:
        self._on_long(call.model)
        if self._mode == "refuse":
            limit = self._limit(call.model)
            size = f", {limit} tokens" if limit else ""
            text = f"the prompt is longer than the context of model '{call.asked}'{size}; make it shorter"
            raise Refusal(400, "context_length_exceeded", text)
        if not trace.cut:
            trace.cut = True
            trace.headers.append(CUT)

    def _limit(self, model: str) -> int | None:
        """Tokens; the smallest that any worker has it loaded with."""
        loaded = (worker.loaded_model(model) for worker in self._fleet.able(model))
        sizes = [m.context_length for m in loaded if m is not None and m.context_length]
        own = self._fleet.contexts.get(model)
        return min((*sizes, own) if own else sizes, default=None)


def as_own(path: str, asked: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The prompt of another API's request in Ollama's own, for one token; None: there is no such prompt in it.

    Without num_ctx: the engine runs such requests with the model's own, and another would load the model anew.
    """
    base = {"model": asked.get("model"), "stream": False, "truncate": False}
    once = {"options": {"num_predict": 1}}
    match path:
        case "/v1/chat/completions":
            return "/api/chat", {**base, **once, "messages": list(_chat(asked)), **_given(tools=asked.get("tools"))}
        case "/v1/completions":
            parts = {name: asked[name] for name in ("prompt", "suffix") if isinstance(asked.get(name), str)}
            return "/api/generate", {**base, **once, **parts}
        case "/v1/embeddings":
            return "/api/embed", {**base, "input": asked.get("input")}
        case "/v1/messages":
            return "/api/chat", {**base, **once, "messages": list(_anthropic(asked)), **_tools(asked, "input_schema")}
        case "/v1/responses":
            return "/api/chat", {**base, **once, "messages": list(_responses(asked)), **_tools(asked, "parameters")}
    return None


def size(probe: Mapping[str, Any]) -> int:
    """Bytes of what the model is to read, at least as many as its tokens; what a template adds is let in generously."""
    texts = [probe.get("prompt"), probe.get("suffix"), probe.get("input")]
    messages = probe.get("messages") or ()
    texts += [value for message in messages for name, value in message.items() if name != "images"]
    tools = probe.get("tools")
    whole = sum(len(text if isinstance(text, str) else json.dumps(text)) for text in texts if text)
    # A character beyond ASCII is several bytes: count them as four, the most there is, only where there are any.
    wide = not all(text.isascii() for text in texts if isinstance(text, str))
    images = sum(len(message.get("images") or ()) for message in messages) * 4096
    return whole * (4 if wide else 1) + 32 * (len(messages) + 1) + (2 * len(json.dumps(tools)) if tools else 0) + images


def _tools(asked: Mapping[str, Any], parameters: str) -> dict[str, Any]:
    """Of APIs that don't wrap them. parameters: how the schema of their arguments is called there."""
    made = [
        {
            "type": "function",
            "function": {
                "name": tool.get("name"),
                "description": tool.get("description") or "",
                "parameters": tool.get(parameters) or {},
            },
        }
        for tool in _dicts(asked.get("tools"))
    ]
    return _given(tools=made)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _chat(asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """As Ollama itself makes them of OpenAI's: each part of a content is a message of its own."""
    for message in _dicts(asked.get("messages")):
        said: dict[str, Any] = {"role": message.get("role")}
        calls = [_call(call) for call in _dicts(message.get("tool_calls"))]
        if calls:
            said["tool_calls"] = calls
        content = message.get("content")
        if not isinstance(content, list):
            yield {**said, "content": str(content or "")}
            continue
        for part in _dicts(content):
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else image
            if isinstance(url, str):
                yield {**said, "content": "", "images": [url.partition(",")[2]]}
            else:
                yield {**said, "content": str(part.get("text") or "")}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (ValueError, TypeError):
        arguments = {}
    return {"function": {"name": function.get("name"), "arguments": arguments if isinstance(arguments, dict) else {}}}


def _anthropic(asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if asked.get("system"):
        yield {"role": "system", "content": _text(asked["system"])}
    for message in _dicts(asked.get("messages")):
        yield {"role": message.get("role"), "content": _text(message.get("content"))}


def _responses(asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if asked.get("instructions"):
        yield {"role": "system", "content": _text(asked["instructions"])}
    given = asked.get("input")
    if isinstance(given, str):
        yield {"role": "user", "content": given}
    for item in _dicts(given):
        yield {"role": item.get("role") or "user", "content": _text(item.get("content") or item.get("output"))}


def _dicts(value: Any) -> Iterable[dict[str, Any]]:
    return [it for it in value if isinstance(it, dict)] if isinstance(value, list) else ()


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or part.get("content") or "") for part in _dicts(content))
    return str(content or "")
