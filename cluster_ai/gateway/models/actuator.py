"""Has one worker get, load or give up a model, by the calls that an administrator has. Each raises FailedError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from cluster_ai.gateway.api.http import Refusal, encode
from cluster_ai.gateway.fleet import Fleet, Worker
from cluster_ai.gateway.models.engine import Engine, FailedError
from cluster_ai.gateway.models.memory import Memory
from cluster_ai.placement.room import Processor
from cluster_ai.settings import CatalogModel


class Actuator:
    def __init__(self, fleet: Fleet, client: aiohttp.ClientSession, memory: Memory, blobs: Path | None) -> None:
        """blobs: where the GGUF files of cluster.yaml's models are; None: there are none here."""
        self._fleet, self._client, self._memory, self._blobs = fleet, client, memory, blobs

    async def fetch(self, model: CatalogModel, worker: Worker, processor: Processor) -> None:
        """Onto the worker's disk, as cluster.yaml wants it. One for the processor is kept off the cards there."""
        engine = Engine(worker, self._fleet, self._client)
        options = {"num_gpu": 0, **model.options} if processor == "cpu" else dict(model.options)
        body: dict[str, Any] = {"model": model.name, "parameters": options, "stream": True}
        if model.blob is None:
            await _through(engine, "/api/pull", {"model": model.name, "stream": True})
            body["from"] = model.name
        else:
            await self._give(engine, model.blob)
            body["files"] = {"model.gguf": f"sha256:{model.blob}"}
            if model.quantize:
                body["quantize"] = model.quantize
        await _through(engine, "/api/create", body)
        await engine.refresh()

    async def _give(self, engine: Engine, sha256: str) -> None:
        digest = f"sha256:{sha256}"
        if await engine.has_blob(digest):
            return
        path = self._blobs / sha256 if self._blobs is not None else None
        if path is None or not path.is_file():
            where = path or f"{sha256}, and no folder of files"
            raise FailedError(404, f"its file isn't on the head host ({where}): `cluster-ai apply` puts it there")
        async for _ in engine.send_blob(digest, path):
            pass

    async def load(self, name: str, worker: Worker) -> None:
        """Into memory."""
        try:
            await self._memory.load(name, worker.name, None)
        except Refusal as e:
            raise FailedError(e.status, e.message) from e
        await Engine(worker, self._fleet, self._client).refresh()

    async def unload(self, name: str, worker: Worker) -> None:
        """Out of memory; what it answers now it answers to the end."""
        try:
            await self._memory.unload(name, worker.name)
        except Refusal as e:
            raise FailedError(e.status, e.message) from e
        await Engine(worker, self._fleet, self._client).refresh()

    async def delete(self, name: str, worker: Worker) -> None:
        """Off the disk."""
        engine = Engine(worker, self._fleet, self._client)
        await engine.call("DELETE", "/api/delete", encode({"model": name}))
        await engine.refresh()


async def _through(engine: Engine, path: str, body: dict[str, Any]) -> None:
    async for _ in engine.follow(path, encode(body)):
        pass
