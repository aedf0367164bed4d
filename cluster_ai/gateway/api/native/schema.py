"""The API's OpenAPI description: FastAPI's, and the routes beside it, which stream and are bare ASGI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from cluster_ai.gateway.api.native.chat import ChatReply, ChatRequest
from cluster_ai.gateway.api.native.generate import GenerateReply, GenerateRequest
from cluster_ai.gateway.api.native.parts import PREFIX, ErrorReply, refusals

_STREAMING: tuple[tuple[str, str, str, type[BaseModel], type[BaseModel]], ...] = (
    (
        "generate",
        "Complete a prompt; the answer names the worker and how fast it was",
        "The answer. With `stream`: Ollama's lines as they come, then this object.",
        GenerateRequest,
        GenerateReply,
    ),
    (
        "chat",
        "The next turn of a conversation, of your own or of a session",
        "The answer. With `stream`: Ollama's lines as they come, then this object.",
        ChatRequest,
        ChatReply,
    ),
)


def describe(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        asked = [(asked, "validation") for *_, asked, _ in _STREAMING]
        given = [(reply, "serialization") for *_, reply in _STREAMING]
        _, defs = models_json_schema(
            [*asked, *given, (ErrorReply, "serialization")],  # type: ignore[list-item]
            ref_template="#/components/schemas/{model}",
        )
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {}).update(defs["$defs"])
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]
        for name, summary, answer, request, reply in _STREAMING:
            operation = _streaming(name, summary, answer, request.__name__, reply.__name__)
            schema["paths"][f"{PREFIX}/{name}"] = {"post": operation}
        _without_422(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _without_422(schema: dict[str, Any]) -> None:
    """FastAPI says that it answers 422 to what is wrong; here that is a 400, in the API's form."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)


def _streaming(name: str, summary: str, answer: str, request: str, reply: str) -> dict[str, Any]:
    def content(kind: str, model: str) -> dict[str, Any]:
        return {kind: {"schema": {"$ref": f"#/components/schemas/{model}"}}}

    errors = {
        str(status): {"description": said["description"], "content": content("application/json", "ErrorReply")}
        for status, said in refusals(404, 409, 413, 429, 500, 502, 503).items()
    }
    return {
        "tags": ["generation"],
        "summary": summary,
        "operationId": name,
        "requestBody": {"required": True, "content": content("application/json", request)},
        "responses": {
            "200": {
                "description": answer,
                "content": {**content("application/json", reply), **content("application/x-ndjson", reply)},
            },
            **errors,
        },
    }
