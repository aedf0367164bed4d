"""The cluster's models: where each is, how it is set up, and whether it is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.engine.client import canonical
from cluster_ai.gateway.api import catalog
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.explanations import ModelExplanation, explanation
from cluster_ai.gateway.api.native.kept.fleet import FleetChanges
from cluster_ai.gateway.api.native.parts import PREFIX, Parts, Tracing, refusals
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.models.memory import options_of
from cluster_ai.gateway.models.registry import Details, Registry, Where

_DURATION = r"^-?([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h))+$"
_YEAR = 366 * 24 * 3600
_SOON = (b"retry-after", b"5")
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
    "context_limit": 4096,
    "license": "LLAMA 2 COMMUNITY LICENSE AGREEMENT",
    "source": "registry",
    "memory": 8000000000,
    "workers": [
        {"worker": "gpu-worker-01", "state": "loaded", "reason": None},
        {"worker": "cpu-worker-01", "state": "present", "reason": None},
    ],
}


class ModelCopy(BaseModel):
    """A model on one worker."""

    worker: str
    state: Where = Field(
        description="`loaded`: in memory; `loading`: on its way there; `present`: on the worker's disk; `missing`: it "
        "should be there, and can't be used there now."
    )
    reason: str | None


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
    context_limit: int | None = Field(description="Tokens of context that the model was made for.")
    license: str | None
    source: str | None = Field(
        description="`registry`: Ollama's, by its name; else the GGUF file that cluster.yaml names. null: cluster.yaml "
        "doesn't name the model."
    )
    memory: int | None = Field(description="What one replica takes, or is taken to take.")
    workers: list[ModelCopy] = Field(description="Every worker that has it, or should.")


class Models(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"models": [EXAMPLE]}]})

    models: list[ModelInfo]


class UnloadRequest(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"worker": "gpu-worker-01"}]})

    worker: str | None = Field(None, description="Only there; else on every worker that it is placed on.")


class LoadRequest(UnloadRequest):
    model_config = ConfigDict(json_schema_extra={"examples": [{"keep_alive": "30m"}]})

    keep_alive: Annotated[str, Field(pattern=_DURATION)] | Annotated[int, Field(ge=-1, le=_YEAR)] | None = Field(
        None,
        description="How long it stays without requests: seconds, or like `5m`, `1h30m`; negative: for ever. "
        "null: the engine's own.",
    )


class WorkerOutcome(BaseModel):
    worker: str
    done: bool
    error: str | None = Field(description="Why not.")


class ModelChange(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "llama2:13b", "workers": [{"worker": "gpu-worker-01", "done": True, "error": None}]}]
        }
    )

    model: str
    workers: list[WorkerOutcome]


class ModelConfig(BaseModel):
    """As it runs. cluster.yaml is the source: what it says of a model, only it changes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "llama2:13b",
                    "context": 4096,
                    "source": "cluster.yaml",
                    "options": {"temperature": "0.2", "stop": ["[INST]", "[/INST]"]},
                    "system": None,
                    "template": "[INST] {{ .Prompt }} [/INST]",
                    "capabilities": ["completion"],
                }
            ]
        }
    )

    name: str
    context: int | None = Field(description="Tokens of context that each request gets; null: the engine's own.")
    source: Literal["cluster.yaml", "api", "engine"] = Field(
        description="Who says the context. Only one that isn't cluster.yaml's can be changed here."
    )
    options: dict[str, str | list[str]] = Field(description="What the model itself brings; a request's go before.")
    system: str | None
    template: str | None
    capabilities: list[str]


class ModelConfigRequest(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"context": 8192}]})

    context: int | None = Field(ge=256, le=10_000_000, description="null: the engine's own.")


def model_info(fleet: Fleet, registry: Registry, name: str, details: Details | None) -> ModelInfo:
    known, wanted = catalog.metadata(fleet, name), registry.wanted(name, details)
    able = fleet.able(name)
    loaded = [w for w in able if name in w.loaded]
    return ModelInfo(
        name=name,
        size=known.size if known else None,
        digest=known.digest if known else None,
        family=(known.family or None) if known else None,
        parameter_size=(known.parameter_size or None) if known else None,
        quantization=(known.quantization or None) if known else None,
        context=_context(fleet, name),
        replicas=sum(name in w.placed for w in fleet.workers.values()),
        present=[w.name for w in able],
        loaded=[w.name for w in loaded],
        context_limit=details.limit if details else None,
        license=details.license if details else None,
        source=registry.source(name),
        memory=wanted.need.memory if wanted else None,
        workers=[ModelCopy(worker=c.worker, state=c.state, reason=c.reason or None) for c in registry.copies(name)],
    )


def _context(fleet: Fleet, name: str) -> int | None:
    running = (w.loaded_model(name) for w in fleet.able(name))
    return fleet.contexts.get(name) or next((m.context_length for m in running if m and m.context_length), None)


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/models", tags=["models"])
    fleet, memory, changes, registry = parts.fleet, parts.memory, FleetChanges(parts.database), parts.known
    configured = frozenset(canonical(m) for m in parts.settings.models).union(
        *(w.placed for w in fleet.workers.values())
    )

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
        names = fleet.names()
        details = await registry.details(names)
        return Models(models=[model_info(fleet, registry, name, details.get(name)) for name in names])

    @router.post(
        "/{name:path}/load",
        summary="Have a model in memory, on one worker or wherever it is placed",
        operation_id="loadModel",
        responses=refusals(404, 409, 502, 503),
    )
    async def load(name: ModelName, trace: Tracing, body: LoadRequest | None = None) -> ModelChange:
        trace.note = "load"
        model, asked = known(name), body or LoadRequest(worker=None, keep_alive=None)
        return change(model, await memory.load(model, asked.worker, asked.keep_alive))

    @router.post(
        "/{name:path}/unload",
        summary="Have a model out of memory, on one worker or on all",
        operation_id="unloadModel",
        responses=refusals(404, 409, 502, 503),
    )
    async def unload(name: ModelName, trace: Tracing, body: UnloadRequest | None = None) -> ModelChange:
        trace.note = "unload"
        model = known(name)
        return change(model, await memory.unload(model, body.worker if body else None))

    @router.get(
        "/{name:path}/config",
        summary="How a model is set up",
        operation_id="getModelConfig",
        responses=refusals(404, 502, 503),
    )
    async def config(name: ModelName) -> ModelConfig:
        return await told(known(name))

    @router.get(
        "/{name:path}/explain",
        summary="Why a model is on these workers, and not on others",
        operation_id="explainModel",
        responses=refusals(404, 503),
    )
    async def explain_model(name: ModelName) -> ModelExplanation:
        model = known(name)
        wanted = registry.wanted(model, (await registry.details([model])).get(model))
        if wanted is None:
            raise Refusal(503, "model_unknown", f"no worker has told of model '{model}' yet", [_SOON])
        return explanation(parts, wanted)

    @router.put(
        "/{name:path}/config",
        summary="Set the context of a model that cluster.yaml doesn't name; another's is refused with 409",
        operation_id="setModelConfig",
        responses=refusals(404, 409, 502, 503),
    )
    async def set_config(name: ModelName, trace: Tracing, body: ModelConfigRequest) -> ModelConfig:
        trace.note = "configure"
        model = known(name)
        if model in configured:
            text = f"{model} is cluster.yaml's, and the next apply would undo this: change its options.num_ctx there"
            raise Refusal(409, "configured", text)
        if body.context is not None:
            await parts.models.write_context(model, body.context)
        await asyncio.to_thread(changes.set_context, model, body.context)
        if body.context is None:
            fleet.contexts.pop(model, None)
        else:
            fleet.contexts[model] = body.context
        return await told(model)

    async def told(model: str) -> ModelConfig:
        said = await memory.show(model)
        source: Literal["cluster.yaml", "api", "engine"] = "engine"
        if model in fleet.contexts:
            source = "cluster.yaml" if model in configured else "api"
        return ModelConfig(
            name=model,
            context=_context(fleet, model),
            source=source,
            options=options_of(str(said.get("parameters") or "")),
            system=said.get("system") or None,
            template=said.get("template") or None,
            capabilities=[str(it) for it in said.get("capabilities") or ()],
        )

    def change(model: str, outcomes: Mapping[str, str]) -> ModelChange:
        workers = [WorkerOutcome(worker=n, done=not error, error=error or None) for n, error in outcomes.items()]
        return ModelChange(model=model, workers=workers)

    @router.get("/{name:path}", summary="One model", operation_id="getModel", responses=refusals(404))
    async def model(name: ModelName) -> ModelInfo:
        found = known(name)
        return model_info(fleet, registry, found, (await registry.details([found])).get(found))

    return router
