"""Two real engines; one is killed: the other serves its models within half a minute, until it is back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cluster_ai.gateway.log import Log
from cluster_ai.gateway.server import Credentials, serve
from cluster_ai.placement import repair
from cluster_ai.settings import CatalogModel, GatewaySettings, Upstream
from tests.rig import cluster as rig
from tests.rig.cluster import MODEL, TOKEN, weights
from tests.rig.processes import free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(rig.ollama() is None, reason="models are made by a real Ollama: `make ollama` builds it"),
]

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

    def log(self, **wanted: object) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.text.getvalue().splitlines()]
        return [it for it in lines if it["event"] == "reconcile" and wanted.items() <= it.items()]


def catalog(blobs: Path) -> CatalogModel:
    """The model as a release would tell it, with its file in the head's folder."""
    sha256 = hashlib.sha256(weights().read_bytes()).hexdigest()
    blobs.mkdir(exist_ok=True)
    if not (blobs / sha256).exists():
        shutil.copy(weights(), blobs / sha256)
    options = {"num_ctx": rig.CONTEXT, "num_thread": 1}
    return CatalogModel(MODEL, 1, GB // 2, "as its resources say", None, None, weights().name, sha256, options)


async def until(condition: Callable[[], Awaitable[bool]], within: float = 30) -> None:
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 (it becomes true in another process)
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def gateway(folder: Path, *upstreams: Upstream, lease: Path | None = None) -> AsyncIterator[Site]:
    text, started = io.StringIO(), asyncio.Event()
    told = GatewaySettings(
        cluster="rig",
        host="127.0.0.1",
        port=0,
        policy="affinity",
        trusted_networks=(),
        scheduler="tcp://127.0.0.1:9",
        upstreams=upstreams,
        models={MODEL: rig.CONTEXT},
        catalog=(catalog(folder / "blobs"),),
        blobs=str(folder / "blobs"),
        lease=str(lease) if lease else None,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    state = folder / "state"
    state.mkdir(exist_ok=True)
    handler = signal.signal(signal.SIGTERM, lambda *_: None)  # the gateway raises it anew at its end
    running = asyncio.create_task(serve(told, Credentials(TOKEN, None), [listener], state, Log(text), started.set))
    try:
        async with (
            asyncio.timeout(60),
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


async def told(site: Site) -> bool:
    return bool(site.log(short=NAME))


def upstream(name: str, url: str, *models: str, ram: int = GB) -> Upstream:
    return Upstream(name, url, models, 1, 0, ram_room=ram)


async def test_a_lost_workers_model_is_served_elsewhere_within_half_a_minute_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "SETTLED", 0.0)
    with contextlib.ExitStack() as engines:
        port = free_port()
        first = contextlib.ExitStack()
        one, process = first.enter_context(rig.ollama_engine(tmp_path / "one", port=port))
        engines.callback(first.close)
        two, _ = engines.enter_context(rig.ollama_engine(tmp_path / "two", model="another"))
        async with gateway(tmp_path, upstream("one", one, MODEL), upstream("two", two)) as site:
            await until(lambda: is_(site, "one", "present"), 20)
            assert "two" not in await site.states()
            explained = await site.ask("GET", f"/api/v1/models/{NAME}/explain")
            assert [it["worker"] for it in explained["workers"] if it["holds"]] == ["one"]
            killed = time.monotonic()
            process.stop(kill=True)
            await until(lambda: is_(site, "two", "loaded"), 40)
            assert time.monotonic() - killed < 30
            assert (await site.states())["two"] == ("loaded", "stands in for one")
            answer = await site.ask(
                "POST", "/api/generate", model=MODEL, prompt="Hi", stream=False, options={"num_predict": 2}
            )
            assert answer["done"]
            (done,) = site.log(do="fetch", worker="two", done=True)
            assert done["reason"].startswith("one is lost (connection refused); here it fits in RAM")
            metrics = await (await site.client.get("/metrics")).text()
            assert f'model_repairs_total{{do="fetch",model="{NAME}",result="done"}} 1.0' in metrics

            first.close()
            first.enter_context(rig.ollama_engine(tmp_path / "one", port=port))
            await until(lambda: is_(site, "one", "loaded"), 60)
            await until(lambda: is_(site, "two", ""))
            (given_back,) = site.log(do="release", worker="two", done=True)
            assert given_back["reason"] == "one is back, and has it in memory"
            names = {it["name"] for it in rig.get(f"{two}/api/tags")["models"]}
            assert names == {"another:latest"}  # what it got for this is off its disk again


async def test_while_a_rollout_goes_on_and_where_nothing_fits_it_only_tells(tmp_path: Path) -> None:
    lease = tmp_path / "lease.json"
    lease.write_text(json.dumps({"owner": "ada@desk", "doing": "apply", "expires": time.time() + 60}))
    gone = f"http://127.0.0.1:{free_port()}"
    with rig.ollama_engine(tmp_path / "two", model="another") as (two, _):
        async with gateway(
            tmp_path, upstream("one", gone, MODEL), upstream("two", two, ram=GB // 4), lease=lease
        ) as site:
            assert site.log(paused="ada@desk: apply")
            lease.write_text(json.dumps({"released": time.time()}))
            await until(lambda: told(site))
            (line,) = site.log(short=NAME)
            assert line["reason"] == "two: needs 500 MB; free: 250 MB in RAM"
            assert not site.log(worker="two")
            metrics = await (await site.client.get("/metrics")).text()
            assert f'model_replicas_short{{model="{NAME}"}} 1.0' in metrics
