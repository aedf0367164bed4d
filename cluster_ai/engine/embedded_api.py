"""Ollama's HTTP API over llama.cpp, as far as the gateway and Ollama's clients use it on one machine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from cluster_ai.engine import embedded_translate as translate
from cluster_ai.engine.embedded_llama import Llama
from cluster_ai.engine.embedded_translate import Ask, Kind, RefusedError

VERSION = "0.17.4"  # of Ollama, whose API this is: clients decide by it what they may ask for
_NEVER = "2318-01-01T00:00:00Z"  # how Ollama writes that a model stays loaded
_LONGEST_BODY = 64 << 20
_LOAD_DEADLINE = 300.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(models: list[Llama]) -> web.Application:
    app = web.Application(client_max_size=_LONGEST_BODY, middlewares=[_errors])
    api = _Api({translate.canonical(m.name): m for m in models})
    app.add_routes(
        [
            web.get("/", api.root),
            web.get("/api/version", api.version),
            web.get("/api/tags", api.tags),
            web.get("/api/ps", api.ps),
            web.post("/api/show", api.show),
            web.post("/api/chat", api.chat),
            web.post("/api/generate", api.generate),
            web.get("/v1/models", api.openai_models),
            web.post("/v1/chat/completions", api.openai_chat),
        ]
    )
    return app


class _Api:
    def __init__(self, models: dict[str, Llama]) -> None:
        self._models = models

    async def root(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text="Ollama is running")

    async def version(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"version": VERSION})

    async def tags(self, _: web.Request) -> web.StreamResponse:
        models = [_entry(m) | {"modified_at": translate.stamp(m.facts.modified)} for m in self._models.values()]
        return web.json_response({"models": models})

    async def ps(self, _: web.Request) -> web.StreamResponse:
        more = {"expires_at": _NEVER, "size_vram": 0}
        running = [m for m in self._models.values() if m.ready.is_set()]
        return web.json_response({"models": [_entry(m) | more | {"context_length": m.context} for m in running]})

    async def show(self, request: web.Request) -> web.StreamResponse:
        facts = self._find(translate.body(await request.read())).facts
        values = facts.metadata.values
        return web.json_response(
            {
                "modelfile": f"FROM {facts.path}\n",
                "template": values.get("tokenizer.chat_template", ""),
                "details": _details(facts.metadata),
                "model_info": {k: v for k, v in values.items() if k != "tokenizer.chat_template"}
                | {"general.parameter_count": facts.metadata.parameters},
                "capabilities": ["completion"],
                "modified_at": translate.stamp(facts.modified),
            }
        )

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._text("chat", request)

    async def generate(self, request: web.Request) -> web.StreamResponse:
        return await self._text("generate", request)

    async def openai_models(self, _: web.Request) -> web.StreamResponse:
        data = [
            {"id": m.name, "object": "model", "created": int(m.facts.modified.timestamp()), "owned_by": "library"}
            for m in self._models.values()
        ]
        return web.json_response({"object": "list", "data": data})

    async def openai_chat(self, request: web.Request) -> web.StreamResponse:
        """llama.cpp speaks OpenAI's API itself: its bytes are passed on."""
        body = translate.body(await request.read())
        model = self._find(body)
        await _until_loaded(model)
        async with model.opened("/v1/chat/completions", body) as answer:
            response = web.StreamResponse(headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
        return response

    async def _text(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        started = time.monotonic()
        body = translate.body(await request.read())
        model = self._find(body)
        ask = translate.ask(kind, body)
        await _until_loaded(model)
        waited = time.monotonic() - started
        if ask.only_loads:
            return web.json_response(translate.loaded(ask, _now()))
        answer = _answer(model, ask, await _prompt(model, ask))
        if not ask.stream:
            said = [piece async for piece in answer]
            text = "".join(p.get("content", "") for p in said)
            end = translate.last(ask, text, said[-1], _now(), time.monotonic() - started, waited)
            return web.json_response(end)
        first = await anext(answer)  # before the headers are out, so that a refusal still has its status
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        piece: dict[str, Any] | None = first
        try:
            while piece is not None:
                if piece.get("content"):
                    await _line(response, translate.chunk(ask, piece["content"], _now()))
                if piece.get("stop"):
                    end = translate.last(ask, "", piece, _now(), time.monotonic() - started, waited)
                    await _line(response, end)
                piece = await anext(answer, None)
        except (RefusedError, aiohttp.ClientError) as error:
            await _line(response, {"error": str(error) or "the model stopped answering"})
        finally:
            await answer.aclose()
        await response.write_eof()
        return response

    def _find(self, body: dict[str, Any]) -> Llama:
        name = translate.model_of(body)
        model = self._models.get(translate.canonical(name)) if name else None
        if model is None:
            raise translate.unknown_model(name)
        return model


async def _prompt(model: Llama, ask: Ask) -> tuple[str, int]:
    """What the model reads, and the tokens left for its answer."""
    limit = min(ask.num_ctx or model.context, model.context)
    messages: tuple[translate.Message, ...] | None = ask.messages
    while messages is not None:
        prompt = ask.raw if ask.raw is not None else await model.render(list(messages))
        count = await model.count(prompt)
        if count < limit:
            return prompt, limit - count
        messages = translate.shortened(messages) if ask.truncate else None
    raise RefusedError(400, f"the prompt has {count} tokens, the context only {limit}")


async def _answer(model: Llama, ask: Ask, prompt: tuple[str, int]) -> AsyncGenerator[dict[str, Any], None]:
    async for piece in model.complete(translate.completion(ask, *prompt)):
        yield piece
        if piece.get("stop"):
            return
    raise RefusedError(500, "the model's server closed the stream early")


async def _until_loaded(model: Llama) -> None:
    try:
        async with asyncio.timeout(_LOAD_DEADLINE):
            await model.ready.wait()
    except TimeoutError as error:
        raise RefusedError(500, f"model '{model.name}' isn't loaded after {_LOAD_DEADLINE:.0f} s") from error


async def _line(response: web.StreamResponse, value: dict[str, Any]) -> None:
    await response.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusedError as refused:
        return web.json_response({"error": refused.error}, status=refused.status)
    except web.HTTPNotFound:
        return web.Response(status=404, text="404 page not found")
    except web.HTTPMethodNotAllowed:
        return web.Response(status=405, text="405 method not allowed")
    except aiohttp.ClientError as error:
        return web.json_response({"error": f"the model's server doesn't answer: {error}"}, status=500)


def _entry(model: Llama) -> dict[str, Any]:
    facts = model.facts
    return {
        "name": model.name,
        "model": model.name,
        "size": facts.size,
        "digest": facts.digest,
        "details": _details(facts.metadata),
    }


def _details(metadata: Any) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": metadata.family,
        "families": [metadata.family],
        "parameter_size": metadata.parameter_size,
        "quantization_level": metadata.quantization,
    }


def _now() -> datetime:
    return datetime.now(UTC)
