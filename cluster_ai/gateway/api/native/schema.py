"""The API's OpenAPI description: FastAPI's, and the routes beside it, which stream and are bare ASGI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from cluster_ai.gateway.api.native.generate import GenerateReply, GenerateRequest
from cluster_ai.gateway.api.native.parts import PREFIX, ErrorReply, refusals


def describe(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, defs = models_json_schema(
            [(GenerateRequest, "validation"), (GenerateReply, "serialization"), (ErrorReply, "serialization")],
            ref_template="#/components/schemas/{model}",
        )
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {}).update(defs["$defs"])
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]
        schema["paths"][f"{PREFIX}/generate"] = {"post": _generate()}
        app.openapi_schema = schema
    return app.openapi_schema


def _generate() -> dict[str, Any]:
    def content(kind: str, name: str) -> dict[str, Any]:
        return {kind: {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    errors = {
        str(status): {"description": said["description"], "content": content("application/json", "ErrorReply")}
        for status, said in refusals(404, 413, 429, 502, 503).items()
    }
    return {
        "tags": ["generation"],
        "summary": "Complete a prompt; the answer names the worker and how fast it was",
        "operationId": "generate",
        "requestBody": {"required": True, "content": content("application/json", "GenerateRequest")},
        "responses": {
            "200": {
                "description": "The answer. With `stream`: Ollama's lines as they come, then this object.",
                "content": {
                    **content("application/json", "GenerateReply"),
                    **content("application/x-ndjson", "GenerateReply"),
                },
            },
            **errors,
        },
    }
