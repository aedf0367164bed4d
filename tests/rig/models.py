"""A gateway in this process before real engines, with a model that cluster.yaml names; its file is on the head."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from cluster_ai.cluster.membership import Tls
from cluster_ai.gateway.log import Log
from cluster_ai.gateway.server import Credentials, serve
from cluster_ai.settings import CatalogModel, GatewaySettings, ScaleSettings, Upstream
from tests.rig import cluster as rig
from tests.rig.cluster import MODEL, TOKEN, weights
from tests.rig.processes import PATIENCE

GB = 10**9
NAME = f"{MODEL}:latest"


@dataclass
class Site:
    client: aiohttp.ClientSession
    text: io.StringIO

    async def ask(self, method: str, path: str, **body: Any) -> Any:
        async with self.client.request(method, path, json=body or None) as reply:
            return await reply.json()

    async def states(self) -> dict[str, tuple[str, str | None]]:
        found = await self.ask("GET", f"/api/v1/models/{NAME}")
        return {it["worker"]: (it["state"], it["reason"]) for it in found["workers"]}

    async def state(self, worker: str) -> str:
        """Empty: the model is no business of that worker's."""
        return (await self.states()).get(worker, ("", None))[0]

    def log(self, event: str = "reconcile", **wanted: object) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.text.getvalue().splitlines()]
        return [it for it in lines if it["event"] == event and wanted.items() <= it.items()]


def catalog(blobs: Path, scale: ScaleSettings | None) -> CatalogModel:
    """The model as a release would tell it, with its file in the head's folder."""
    sha256 = hashlib.sha256(weights().read_bytes()).hexdigest()
    blobs.mkdir(exist_ok=True)
    if not (blobs / sha256).exists():
        shutil.copy(weights(), blobs / sha256)
    options = {"num_ctx": rig.CONTEXT, "num_thread": 1}
    why, file = "as its resources say", weights().name
    return CatalogModel(MODEL, 1, GB // 2, why, None, None, file, sha256, options, scale=scale)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 (it becomes true in another process)
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def gateway(
    folder: Path,
    *upstreams: Upstream,
    lease: Path | None = None,
    scale: ScaleSettings | None = None,
    scheduler: str = "tcp://127.0.0.1:9",
    tls: Tls | None = None,
) -> AsyncIterator[Site]:
    text, started = io.StringIO(), asyncio.Event()
    told = GatewaySettings(
        cluster="rig",
        host="127.0.0.1",
        port=0,
        policy="affinity",
        trusted_networks=(),
        scheduler=scheduler,
        upstreams=upstreams,
        models={MODEL: rig.CONTEXT},
        catalog=(catalog(folder / "blobs", scale),),
        blobs=str(folder / "blobs"),
        lease=str(lease) if lease else None,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    state = folder / "state"
    state.mkdir(exist_ok=True)
    handler = signal.signal(signal.SIGTERM, lambda *_: None)  # the gateway raises it anew at its end
    running = asyncio.create_task(serve(told, Credentials(TOKEN, tls), [listener], state, Log(text), started.set))
    try:
        async with (
            asyncio.timeout(PATIENCE),
            aiohttp.ClientSession(url, headers={"authorization": f"Bearer {TOKEN}"}) as client,
        ):
            await started.wait()
            async with asyncio.timeout(None):
                yield Site(client, text)
    finally:
        signal.raise_signal(signal.SIGTERM)
        await running
        signal.signal(signal.SIGTERM, handler)


async def is_(site: Site, worker: str, state: str) -> bool:
    return await site.state(worker) == state


def upstream(name: str, url: str, *models: str, ram: int = GB) -> Upstream:
    return Upstream(name, url, models, 1, 0, ram_room=ram)
