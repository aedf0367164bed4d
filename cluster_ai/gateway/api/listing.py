"""What is answered without an engine: the cluster's models and version, in Ollama's and OpenAI's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster_ai.gateway.api import anthropic, catalog
from cluster_ai.gateway.api.http import JSON, Receive, Refusal, Scope, Send, encode, send_whole
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.routing import Handler, Table
from cluster_ai.gateway.trace import Trace

_MODELS = "/v1/models/"


class Listing:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def enter(self, table: Table) -> None:
        table.add("GET", "/api/tags", _told(lambda: catalog.tags(self._fleet)))
        table.add("GET", "/api/ps", _told(lambda: catalog.ps(self._fleet)))
        table.add("GET", "/api/version", _told(self._version))
        table.add("GET", _MODELS.rstrip("/"), _told(lambda: catalog.openai_models(self._fleet)))
        table.below(_MODELS, "{model}", GET=self._model)
        table.add("POST", anthropic.COUNT, _count_tokens)

    def _version(self) -> dict[str, Any]:
        version = catalog.version(self._fleet)
        if version is None:
            raise Refusal(503, "no_worker", "no worker is active", [(b"retry-after", b"2")])
        return {"version": version}

    async def _model(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        model = scope["path"].removeprefix(_MODELS)
        await send_whole(send, 200, encode(catalog.openai_model(self._fleet, model)), [JSON])


def _told(make: Callable[[], dict[str, Any]]) -> Handler:
    async def handler(scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        await send_whole(send, 200, encode(make()), [JSON])

    return handler


async def _count_tokens(scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
    raise Refusal(404, "not_found", "tokens can't be counted here: the engines offer no count without an answer")
