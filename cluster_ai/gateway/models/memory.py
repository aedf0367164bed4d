"""Has engines load and unload models, and tell how one is set up: requests of ours, by the same relay as any other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from cluster_ai.gateway.api.http import Refusal, encode
from cluster_ai.gateway.balancing import NO_WISH, Wish
from cluster_ai.gateway.calls import Call
from cluster_ai.gateway.fleet import Fleet, Worker
from cluster_ai.gateway.relay import LostError, Relay

_SOON = (b"retry-after", b"5")


class Memory:
    def __init__(self, fleet: Fleet, relay: Relay) -> None:
        self._fleet, self._relay = fleet, relay

    async def load(self, model: str, worker: str | None, keep_alive: str | int | None) -> Mapping[str, str]:
        """By worker: why it couldn't, empty where it is done. Raises Refusal: 404, 409, 502 where none could, 503."""
        able = self._targets(model, worker)
        placed = [w for w in able if model in w.placed] or able
        body: dict[str, Any] = {} if keep_alive is None else {"keep_alive": keep_alive}
        if model in self._fleet.contexts:
            body["options"] = {"num_ctx": self._fleet.contexts[model]}
        return await self._everywhere(model, placed, body)

    async def unload(self, model: str, worker: str | None) -> Mapping[str, str]:
        """As load."""
        return await self._everywhere(model, self._targets(model, worker), {"keep_alive": 0})

    async def show(self, model: str) -> dict[str, Any]:
        """What an engine says of it. Raises Refusal, LostError."""
        return await self._ask("/api/show", model, {}, NO_WISH)

    def _targets(self, model: str, worker: str | None) -> list[Worker]:
        able = list(self._fleet.able(model))
        if worker is None:
            if not able:
                raise Refusal(503, "no_worker", f"no healthy worker has model '{model}' now", [_SOON])
            return able
        found = self._fleet.workers.get(worker)
        if found is None:
            raise Refusal(404, "worker_not_found", f"worker '{worker}' not found")
        if found in able:
            return [found]
        if found.reason:
            raise Refusal(
                503, "worker_unavailable", f"worker '{worker}' is {found.state.value}: {found.reason}", [_SOON]
            )
        raise Refusal(409, "model_not_there", f"worker '{worker}' doesn't have model '{model}' on its disk")

    async def _everywhere(self, model: str, workers: list[Worker], body: dict[str, Any]) -> Mapping[str, str]:
        errors = await asyncio.gather(*(self._one(model, worker, body) for worker in workers))
        for worker in workers:
            worker.suspect.set()  # look anew what it has in memory
        if all(errors):
            told = "; ".join(f"{worker.name}: {error}" for worker, error in zip(workers, errors, strict=True))
            raise Refusal(502, "engine_error", told)
        return {worker.name: error for worker, error in zip(workers, errors, strict=True)}

    async def _one(self, model: str, worker: Worker, body: dict[str, Any]) -> str:
        """Why it couldn't; empty when it is done."""
        wish = Wish(worker=worker.name)
        try:
            try:
                await self._ask("/api/generate", model, {**body, "stream": False}, wish)
            except Refusal as e:
                if e.status != 400:
                    raise
                await self._ask("/api/embed", model, {**body, "input": []}, wish)  # one that only embeds
        except (Refusal, LostError) as e:
            return str(e)
        return ""

    async def _ask(self, path: str, model: str, body: dict[str, Any], wish: Wish) -> dict[str, Any]:
        value = {"model": model, **body}
        reply = await self._relay.open(Call(path, model, model, encode(value), whole=True, value=value, wish=wish))
        reply.close()
        try:
            said = json.loads(reply.first)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise Refusal(502, "engine_error", f"worker {reply.worker.name} answered what is no JSON")
        if reply.status != 200:
            status = reply.status if reply.status in (400, 404) else 502
            raise Refusal(status, "engine_error", str(said.get("error") or f"the engine answered {reply.status}"))
        return said


def options_of(parameters: str) -> dict[str, str | list[str]]:
    """From what Ollama's /api/show has as `parameters`: an option a line, several times where it is a list."""
    found: dict[str, list[str]] = {}
    for line in parameters.splitlines():
        name, _, value = line.strip().partition(" ")
        value = value.strip()
        if value.startswith('"'):
            try:
                value = str(json.loads(value))
            except ValueError:
                value = value.strip('"')
        if name:
            found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
