"""The native API's administration, of a module of routes for each noun. FastAPI, since nothing here is in a hurry."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from cluster_ai import __version__
from cluster_ai.gateway.api.http import Api, Refusal, error_body
from cluster_ai.gateway.api.native import (
    account,
    audit,
    cluster,
    keys,
    models,
    plan,
    rollouts,
    sessions,
    tasks,
    templates,
    usage,
    users,
    workers,
)
from cluster_ai.gateway.api.native.body import worded
from cluster_ai.gateway.api.native.parts import PREFIX, Parts, Routes
from cluster_ai.gateway.api.native.schema import describe
from cluster_ai.gateway.relay import LostError

ROUTES: tuple[Routes, ...] = (
    models.routes,
    sessions.routes,
    templates.routes,
    tasks.routes,
    cluster.routes,
    workers.routes,
    keys.routes,
    usage.routes,
    account.routes,
    users.routes,
    audit.routes,
    rollouts.routes,
    plan.routes,
)
NOUNS = frozenset(
    (
        "login",
        "logout",
        "whoami",
        "password",
        "users",
        "audit",
        "keys",
        "usage",
        "models",
        "sessions",
        "templates",
        "tasks",
        "cluster",
        "rollouts",
        "plan",
        "openapi.json",
    )
)  # what may follow PREFIX, for the metric's label


def build(parts: Parts) -> FastAPI:
    app = FastAPI(
        title=f"Cluster AI: {parts.settings.cluster}",
        version=__version__,
        description="The native API. Ollama's is at /api, OpenAI's at /v1, both on this address.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    routers = [routes(parts) for routes in ROUTES]
    for router in routers:
        app.include_router(router)
    found = [*app.routes, *(route for router in routers for route in router.routes)]
    app.state.endpoints = [route for route in found if isinstance(route, Route)]  # in the order that they are tried

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        return _error(request, refusal)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code != 405:
            code = "not_found" if error.status_code == 404 else "http_error"
            return _error(request, Refusal(error.status_code, code, str(error.detail)))
        allowed = ", ".join(_methods(request))
        text = f"{request.url.path} doesn't take {request.method}, only {allowed}"
        return _error(request, Refusal(405, "method_not_allowed", text, [(b"allow", allowed.encode())]))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _error(request, Refusal(400, "invalid_request", worded(error.errors())))

    @app.exception_handler(LostError)
    async def lost(request: Request, error: LostError) -> JSONResponse:
        return _error(request, Refusal(502, "worker_lost", error.reason, [(b"retry-after", b"2")]))

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        """The error goes on from here, to the gateway's log."""
        return _error(request, Refusal(500, "internal", "a fault of the gateway; its log has it"))

    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app


def _methods(request: Request) -> list[str]:
    """What the path takes, by the first of the routes that it fits: a model's name may have slashes, and fits many."""
    fitting = [it for it in request.app.state.endpoints if it.matches(request.scope)[0] is not Match.NONE]
    return sorted(set().union(*(it.methods or () for it in fitting if it.path == fitting[0].path)))


def _error(request: Request, refusal: Refusal) -> JSONResponse:
    headers = {name.decode(): value.decode() for name, value in refusal.headers}
    return JSONResponse(
        error_body(Api.NATIVE, refusal, request.scope.get("request_id", "")), refusal.status, headers=headers
    )
