"""From a body to a call: what is asked, of which model, and whether its context size must be put right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster_ai.engine.client import canonical
from cluster_ai.gateway.api import openai
from cluster_ai.gateway.api.http import Api, Refusal
from cluster_ai.gateway.balancing import NO_WISH, POLICIES, Chain, Wish
from cluster_ai.gateway.balancing.prefix import chain
from cluster_ai.gateway.parsing import parse

STRICT = b'"truncate":false,'  # at the beginning of a body: a prompt that is too long must not be cut in silence
_CUT_BY_ENGINE = frozenset(("/api/chat", "/api/generate", "/api/embed"))
_NAMELESS = frozenset(("/api/generate", "/api/embed"))  # there Ollama looks for a model without a name


@dataclass(frozen=True, slots=True)
class Route:
    """A route that is relayed. streams: whether an answer streams when the body doesn't say; None: it never does."""

    path: str
    api: Api
    streams: bool | None
    task: bool = True  # an inference; False: asks about a model


@dataclass(frozen=True, slots=True)
class Call:
    """What the relay needs. model is canonical, asked as the client wrote it; whole: the answer comes in one piece.

    value: the body, parsed, as the client sent it.
    """

    path: str
    model: str
    asked: str
    body: bytes
    whole: bool
    value: dict[str, Any] = field(default_factory=dict, repr=False)
    wish: Wish = NO_WISH

    def prefix(self) -> Chain:
        """What the model is to read, for policies that go by it; made anew each time."""
        return chain(self.path, self.model, self.value)


def admit(route: Route, body: bytes, contexts: Mapping[str, int], wish: Wish = NO_WISH) -> Call:
    """Raises Refusal (400)."""
    if not body:
        raise Refusal(400, "missing_body", "missing request body")
    value = parse(body)
    asked = value.get("model") or (value.get("name") if route.path == "/api/show" else None)
    if not isinstance(asked, str) or not asked.strip():
        if route.path in _NAMELESS and not asked:
            raise Refusal(404, "model_not_found", "model '' not found")
        raise Refusal(400, "model_required", "model is required")
    stream: bool | None = value.get("stream")
    whole = route.streams is None or not (route.streams if stream is None else stream)
    model = canonical(asked)
    if route.api is Api.OLLAMA and route.task:
        body = with_context(body, value, contexts.get(model), strict=route.path in _CUT_BY_ENGINE)
    elif route.path == openai.CHAT:
        body = openai.for_engine(body, value, whole=whole)
    return Call(route.path, model, asked, body, whole, value, wish)


def with_context(body: bytes, value: dict[str, Any], num_ctx: int | None, *, strict: bool) -> bytes:
    """The body with options.num_ctx as the cluster runs the model; untouched where it already says so.

    Two clients that ask for different sizes would make Ollama load the model anew for each of them, again and again.
    strict: with STRICT too, unless the client says what is to become of a prompt that is too long.
    """
    options, added = value.get("options"), STRICT if strict and "truncate" not in value else b""
    if num_ctx is not None and not (isinstance(options, dict) and options.get("num_ctx") == num_ctx):
        if options is not None and not isinstance(options, dict):
            raise Refusal(400, "invalid_options", "options must be an object")
        if "options" in value:
            changed = {**value, "options": {**(options or {}), "num_ctx": num_ctx}}
            body = json.dumps(changed, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
        else:
            added += b'"options":{"num_ctx":%d},' % num_ctx
    if not added:
        return body
    return b"{" + added + body.lstrip(b" \t\r\n")[1:]  # spares the work of writing a long prompt or an image anew


def wish_of(policy: bytes, worker: bytes) -> Wish:
    """From the headers x-cluster-policy and x-cluster-worker. Raises Refusal (400)."""
    wanted = policy.decode("latin-1").strip().lower()
    if wanted and wanted not in POLICIES:
        text = f"x-cluster-policy: '{wanted}' is no policy; allowed: {', '.join(sorted(POLICIES))}"
        raise Refusal(400, "unknown_policy", text)
    return Wish(wanted, worker.decode("latin-1").strip())
