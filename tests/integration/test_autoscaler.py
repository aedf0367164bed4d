"""A second replica comes up on another real engine while there is much to do, and goes after."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from pathlib import Path

import pytest

from cluster_ai.gateway.models import autoscaler
from cluster_ai.settings import ScaleSettings
from tests.rig import cluster as rig
from tests.rig.cluster import MODEL
from tests.rig.models import NAME, Site, gateway, is_, until, upstream

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(rig.ollama() is None, reason="models are made by a real Ollama: `make ollama` builds it"),
]

SCALE = ScaleSettings(1, 2, 1, None, 1.0, None, 0.0, (), False)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("SAMPLE", 0.2), ("EVERY", 0.4), ("SPAN", 1.0)):
        monkeypatch.setattr(autoscaler, name, seconds)


async def added(site: Site, worker: str) -> bool:
    return (await site.states()).get(worker) == ("loaded", "added by the autoscaler")


async def measured(site: Site, line: str) -> bool:
    return line in (await (await site.client.get("/metrics")).text()).splitlines()


async def busy(site: Site) -> None:
    """Four who ask at once, again and again."""

    async def one() -> None:
        while True:
            options = {"num_predict": 100}
            await site.ask("POST", "/api/generate", model=MODEL, prompt="Count.", stream=False, options=options)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(one())


async def test_a_second_replica_comes_under_load_and_goes_after(tmp_path: Path) -> None:
    with (
        rig.ollama_engine(tmp_path / "one") as (one, _),
        rig.ollama_engine(tmp_path / "two", model="another") as (two, _),
    ):
        workers = upstream("one", one, MODEL), upstream("two", two)
        async with gateway(tmp_path, *workers, scale=SCALE) as site:
            await until(lambda: is_(site, "one", "loaded"))  # there is one at least
            assert await site.state("two") == ""
            asking = asyncio.create_task(busy(site))
            try:
                await until(lambda: added(site, "two"))
            finally:
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asking
            await until(lambda: is_(site, "two", ""))  # which is so once it is off its disk
            assert {it["name"] for it in rig.get(f"{two}/api/tags")["models"]} == {"another:latest"}
            assert await site.state("one") == "loaded"
            down, up, *_ = (await site.ask("GET", "/api/v1/cluster/scaling"))["decisions"]
            assert (up["kind"], up["name"], up["before"], up["after"]) == ("replicas", NAME, 1, 2)
            assert "requests at once, 1 a replica" in up["reason"]
            assert (down["before"], down["after"]) == (2, 1)
            for wanted in ("wanted", "ready"):
                await until(lambda wanted=wanted: measured(site, f'model_replicas_{wanted}{{model="{NAME}"}} 1.0'))  # type: ignore[misc]
        async with gateway(tmp_path, *workers, scale=SCALE) as site:  # its decisions outlast it
            kept = (await site.ask("GET", "/api/v1/cluster/scaling"))["decisions"]
            assert up in kept
            assert down in kept


async def test_a_model_that_nobody_uses_leaves_memory_and_a_dry_run_only_tells_so(tmp_path: Path) -> None:
    idle = dataclasses.replace(SCALE, max=1, idle=2.0)
    with rig.ollama_engine(tmp_path / "one") as (one, _):
        for dry_run in (True, False):
            scale = dataclasses.replace(idle, dry_run=dry_run)
            async with gateway(tmp_path, upstream("one", one, MODEL), scale=scale) as site:
                if dry_run:  # which leaves it there; the other gateway may be rid of it before anybody looks
                    await site.ask("POST", f"/api/v1/models/{NAME}/load", keep_alive=-1)

                async def told(site: Site = site) -> bool:
                    return bool(site.log("scale", name=NAME, before=1, after=0))

                await until(told)
                if dry_run:
                    assert await site.state("one") == "loaded"
                else:
                    await until(lambda: is_(site, "one", "present"))
                    options = {"num_predict": 2}
                    answer = await site.ask(
                        "POST", "/api/generate", model=MODEL, prompt="Hi", stream=False, options=options
                    )
                    assert answer["done"]  # the first request has it back
