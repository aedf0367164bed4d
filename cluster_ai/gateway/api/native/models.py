"""The cluster's models: where each is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.engine.client import canonical
from cluster_ai.gateway.api import catalog
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.parts import PREFIX, Parts, refusals
from cluster_ai.gateway.fleet import Fleet

ModelName = Annotated[
    str, Path(description="Without a tag, `latest` is meant; it may have slashes.", examples=["llama2:13b"])
]
EXAMPLE: JsonDict = {
    "name": "llama2:13b",
    "size": 7365960935,
    "digest": "d475bf4c50bc4d29f333023e38cd56535039eec11052204e5304c8773cc8416c",
    "family": "llama",
    "parameter_size": "13B",
    "quantization": "Q4_0",
    "context": 4096,
    "replicas": 2,
    "present": ["gpu-worker-01", "cpu-worker-01"],
    "loaded": ["gpu-worker-01"],
}


class ModelInfo(BaseModel):
    """Sizes are bytes. What no worker has told yet is null."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: str
    size: int | None
    digest: str | None
    family: str | None
    parameter_size: str | None
    quantization: str | None
    context: int | None = Field(description="Tokens of context that the cluster runs it with.")
    replicas: int = Field(description="Workers that it is placed on.")
    present: list[str] = Field(description="Healthy workers that have it on disk.")
    loaded: list[str] = Field(description="Healthy workers that have it in memory.")


class Models(BaseModel):
    models: list[ModelInfo]


def model_info(fleet: Fleet, name: str) -> ModelInfo:
    known = catalog.metadata(fleet, name)
    able = fleet.able(name)
    loaded = [w for w in able if name in w.loaded]
    running = (w.loaded_model(name) for w in loaded)
    context = fleet.contexts.get(name) or next((m.context_length for m in running if m and m.context_length), None)
    return ModelInfo(
        name=name,
        size=known.size if known else None,
        digest=known.digest if known else None,
        family=(known.family or None) if known else None,
        parameter_size=(known.parameter_size or None) if known else None,
        quantization=(known.quantization or None) if known else None,
        context=context,
        replicas=sum(name in w.placed for w in fleet.workers.values()),
        present=[w.name for w in able],
        loaded=[w.name for w in loaded],
    )


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/models", tags=["models"])
    fleet = parts.fleet

    def known(name: str) -> str:
        """Its one spelling. Raises Refusal (404)."""
        if not fleet.known(canonical(name)):
            raise Refusal(404, "model_not_found", f"model '{name}' not found")
        return canonical(name)

    @router.get(
        "",
        summary="Every model of the cluster, and where it is",
        operation_id="listModels",
        responses=refusals(),
    )
    async def models() -> Models:
        return Models(models=[model_info(fleet, name) for name in fleet.names()])

    @router.get("/{name:path}", summary="One model", operation_id="getModel", responses=refusals(404))
    async def model(name: ModelName) -> ModelInfo:
        return model_info(fleet, known(name))

    return router
