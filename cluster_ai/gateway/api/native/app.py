"""The native API's administration: models, the cluster's state, draining. FastAPI, since nothing here is in a hurry."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from cluster_ai import __version__
from cluster_ai.cluster.membership import Member, Membership
from cluster_ai.engine.client import canonical
from cluster_ai.gateway.api import catalog
from cluster_ai.gateway.api.http import Api, Refusal, error_body
from cluster_ai.gateway.api.native import page
from cluster_ai.gateway.api.native.generate import GenerateReply, GenerateRequest
from cluster_ai.gateway.cordons import Cordons
from cluster_ai.gateway.elders import Elders
from cluster_ai.gateway.fleet import Fleet, Worker
from cluster_ai.settings import GatewaySettings

PREFIX = "/api/v1"
WorkerName = Annotated[str, Path(description="As in cluster.yaml.", examples=["gpu-worker-01"])]


class Error(BaseModel):
    code: str
    message: str


class ErrorReply(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {"code": "model_not_found", "message": "model 'x' not found"},
                    "request_id": "5f2d8a9be07c4431",
                }
            ]
        }
    )

    error: Error
    request_id: str


class ModelInfo(BaseModel):
    """Sizes are bytes. What no worker has told yet is null."""

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


class GpuInfo(BaseModel):
    index: int
    name: str
    memory_used: int
    memory_total: int
    usage: float | None


class CordonInfo(BaseModel):
    """A worker that gets nothing new, neither requests nor Dask tasks. It is empty when nothing is left of either."""

    reason: str
    since: str
    drained: bool = Field(description="Its results in Dask are moved to other workers too.")
    tasks: int | None = Field(description="Dask tasks that it still has; null where that isn't known.")
    results: int | None = Field(description="Results that still are on it alone, though others could take them.")
    untold: str | None = Field(description="Why Dask doesn't know of it; it is told as soon as that can be.")


class CordonRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=200, description="For people who look at the status.")


class WorkerInfo(BaseModel):
    """cpu is a share of 0 to 1, memory is bytes; null where the last heartbeat is missing or too old."""

    name: str
    state: str = Field(description="joining, active, draining or down.")
    reason: str | None = Field(description="Why it isn't active.")
    in_flight: int
    slots: int
    dask_tasks: int | None
    placed: list[str]
    models: list[str] = Field(description="On its disk.")
    loaded: list[str] = Field(description="In its memory.")
    engine_version: str | None
    cpu: float | None
    memory_used: int | None
    memory_total: int | None
    disk_free: int | None
    gpu: list[GpuInfo]
    cordon: CordonInfo | None = Field(description="null: nobody has cordoned or drained it.")


class Status(BaseModel):
    """cpu_utilization and memory_usage are shares of 0 to 1 over all hosts that report; null where none does."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "cluster": "production-cluster",
                    "total_workers": 1,
                    "active_workers": 1,
                    "active_tasks": 2,
                    "cpu_utilization": 0.31,
                    "memory_usage": 0.42,
                    "gpu_available": 1,
                    "scheduler_connected": True,
                    "scheduler_reason": None,
                    "workers": [
                        {
                            "name": "gpu-worker-01",
                            "state": "active",
                            "reason": None,
                            "in_flight": 2,
                            "slots": 4,
                            "dask_tasks": 0,
                            "placed": ["llama2:13b"],
                            "models": ["llama2:13b"],
                            "loaded": ["llama2:13b"],
                            "engine_version": "0.17.4",
                            "cpu": 0.31,
                            "memory_used": 14495514624,
                            "memory_total": 34359738368,
                            "disk_free": 209379655680,
                            "gpu": [
                                {
                                    "index": 0,
                                    "name": "NVIDIA GeForce RTX 3090",
                                    "memory_used": 9126805504,
                                    "memory_total": 25769803776,
                                    "usage": 0.87,
                                }
                            ],
                            "cordon": None,
                        }
                    ],
                }
            ]
        }
    )

    cluster: str
    total_workers: int
    active_workers: int
    active_tasks: int = Field(description="Requests in flight through this gateway, and Dask tasks that run.")
    cpu_utilization: float | None
    memory_usage: float | None
    gpu_available: int = Field(description="Cards that the workers' drivers report.")
    scheduler_connected: bool
    scheduler_reason: str | None
    workers: list[WorkerInfo]


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


def cordon_info(worker: Worker, cordons: Cordons) -> CordonInfo | None:
    cordon, left = worker.cordon, cordons.left(worker)
    if cordon is None:
        return None
    return CordonInfo(
        reason=cordon.reason,
        since=cordon.when,
        drained=cordon.drained,
        tasks=left.tasks if left else None,
        results=left.results if left else None,
        untold=cordons.untold or None,
    )


def worker_info(worker: Worker, member: Member | None, cordons: Cordons, elsewhere: int) -> WorkerInfo:
    """elsewhere: what gateways that end have under way there."""
    told = member.report if member is not None else None
    return WorkerInfo(
        name=worker.name,
        state=worker.state.value,
        reason=worker.reason or None,
        in_flight=worker.in_flight + elsewhere,
        slots=worker.slots,
        dask_tasks=member.executing if member is not None else None,
        placed=sorted(worker.placed),
        models=sorted(worker.present),
        loaded=sorted(worker.loaded),
        engine_version=worker.engine.version or None,
        cpu=told.cpu if told else None,
        memory_used=told.memory_used if told else None,
        memory_total=told.memory_total if told else None,
        disk_free=told.disk_free if told else None,
        gpu=[
            GpuInfo(index=g.index, name=g.name, memory_used=g.memory_used, memory_total=g.memory_total, usage=g.usage)
            for g in (told.gpus if told else ())
        ],
        cordon=cordon_info(worker, cordons),
    )


def status(settings: GatewaySettings, fleet: Fleet, membership: Membership, cordons: Cordons, elders: Elders) -> Status:
    view = membership.view
    members = view.members if view is not None else {}
    elsewhere = elders.in_flight()
    workers = [worker_info(w, members.get(w.name), cordons, elsewhere.get(w.name, 0)) for w in fleet.workers.values()]
    reports = [m.report for m in members.values() if m.report is not None]
    timed = [(r.cpu * r.cores, r.cores) for r in reports if r.cpu is not None]
    memory = sum(r.memory_total for r in reports)
    return Status(
        cluster=settings.cluster,
        total_workers=len(workers),
        active_workers=len(fleet.active()),
        active_tasks=sum(w.in_flight for w in workers) + sum(m.executing for m in members.values()),
        cpu_utilization=round(sum(t[0] for t in timed) / sum(t[1] for t in timed), 4) if timed else None,
        memory_usage=round(sum(r.memory_used for r in reports) / memory, 4) if memory else None,
        gpu_available=sum(len(w.gpu) for w in workers if w.state == "active"),
        scheduler_connected=membership.connected,
        scheduler_reason=membership.reason or None,
        workers=workers,
    )


def build(settings: GatewaySettings, fleet: Fleet, membership: Membership, cordons: Cordons, elders: Elders) -> FastAPI:
    app = FastAPI(
        title=f"Cluster AI: {settings.cluster}",
        version=__version__,
        description="The native API. Ollama's is at /api, OpenAI's at /v1, both on this address.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    errors: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}

    @app.get(f"{PREFIX}/models", tags=["models"], summary="Every model of the cluster, and where it is")
    async def models() -> Models:
        return Models(models=[model_info(fleet, name) for name in fleet.names()])

    @app.get(f"{PREFIX}/models/{{name:path}}", tags=["models"], summary="One model", responses=errors)
    async def model(name: str) -> ModelInfo:
        if not fleet.known(canonical(name)):
            raise Refusal(404, "model_not_found", f"model '{name}' not found")
        return model_info(fleet, canonical(name))

    @app.get(f"{PREFIX}/cluster/status", tags=["cluster"], summary="The cluster and each worker, now")
    async def cluster_status() -> Status:
        return status(settings, fleet, membership, cordons, elders)

    @app.post(
        f"{PREFIX}/cluster/workers/{{name}}/cordon",
        tags=["cluster"],
        summary="Give a worker nothing new, until resume; it finishes what it has",
        responses=errors,
    )
    async def cordon(name: WorkerName, body: CordonRequest | None = None) -> WorkerInfo:
        worker = _worker(name)
        await cordons.cordon(worker, body.reason if body else "", drain=False)
        return _info(worker)

    @app.post(
        f"{PREFIX}/cluster/workers/{{name}}/drain",
        tags=["cluster"],
        summary="Cordon a worker, and move what only it holds in Dask. `cordon` in the status tells what is left",
        responses=errors,
    )
    async def drain(name: WorkerName, body: CordonRequest | None = None) -> WorkerInfo:
        worker = _worker(name)
        await cordons.cordon(worker, body.reason if body else "", drain=True)
        return _info(worker)

    @app.post(
        f"{PREFIX}/cluster/workers/{{name}}/resume",
        tags=["cluster"],
        summary="Give a cordoned or drained worker requests and tasks again",
        responses=errors,
    )
    async def resume(name: WorkerName) -> WorkerInfo:
        worker = _worker(name)
        await cordons.resume(worker)
        return _info(worker)

    def _worker(name: str) -> Worker:
        worker = fleet.workers.get(name)
        if worker is None:
            raise Refusal(404, "worker_not_found", f"worker '{name}' not found")
        return worker

    def _info(worker: Worker) -> WorkerInfo:
        view = membership.view
        member = view.members.get(worker.name) if view is not None else None
        return worker_info(worker, member, cordons, elders.in_flight().get(worker.name, 0))

    @app.get(f"{PREFIX}/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page.render(app.openapi()))

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        return _error(request, refusal)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        return _error(request, Refusal(error.status_code, code, str(error.detail)))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _error(request, Refusal(400, "invalid_request", str(error.errors()[0]["msg"])))

    app.openapi = lambda: _schema(app)  # type: ignore[method-assign]
    return app


def _error(request: Request, refusal: Refusal) -> JSONResponse:
    return JSONResponse(error_body(Api.NATIVE, refusal, request.scope.get("request_id", "")), refusal.status)


def _schema(app: FastAPI) -> dict[str, Any]:
    """FastAPI's, and the one route beside it (generate is bare ASGI)."""
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
        str(code): {"description": text, "content": content("application/json", "ErrorReply")}
        for code, text in (
            (400, "The request is wrong"),
            (401, "No good token"),
            (404, "No such model"),
            (502, "The engine failed, or its worker was lost"),
            (503, "No healthy worker has the model now; see Retry-After"),
        )
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
