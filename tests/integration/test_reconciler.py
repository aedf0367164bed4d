"""Two real engines; one is killed: the other serves its models within half a minute, until it is back."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from cluster_ai.gateway.failover import flapping
from cluster_ai.gateway.models import reconciler
from cluster_ai.placement import repair
from cluster_ai.settings import Upstream
from tests.fakes.upstream import in_thread
from tests.rig import cluster as rig
from tests.rig.cluster import MODEL
from tests.rig.models import GB, NAME, Site, gateway, is_, until, upstream
from tests.rig.processes import free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(rig.ollama() is None, reason="models are made by a real Ollama: `make ollama` builds it"),
]


async def logged(site: Site, event: str = "reconcile", **wanted: object) -> bool:
    return bool(site.log(event, **wanted))


async def active(site: Site, worker: str) -> bool:
    workers = (await site.ask("GET", "/api/v1/cluster/status"))["workers"]
    return any((it["name"], it["state"]) == (worker, "active") for it in workers)


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
            await until(lambda: is_(site, "one", "present"))
            assert "two" not in await site.states()
            explained = await site.ask("GET", f"/api/v1/models/{NAME}/explain")
            assert [it["worker"] for it in explained["workers"] if it["holds"]] == ["one"]
            killed = time.monotonic()
            process.stop(kill=True)
            await until(lambda: is_(site, "two", "loaded"))
            assert time.monotonic() - killed < 30
            await until(lambda: logged(site, do="fetch", worker="two", done=True))
            (done,) = site.log(do="fetch", worker="two", done=True)
            assert (await site.states())["two"] == ("loaded", "stands in for one")
            answer = await site.ask(
                "POST", "/api/generate", model=MODEL, prompt="Hi", stream=False, options={"num_predict": 2}
            )
            assert answer["done"]
            assert done["reason"].startswith("one is lost (connection refused); here it fits in RAM")
            metrics = await (await site.client.get("/metrics")).text()
            assert f'model_repairs_total{{do="fetch",model="{NAME}",result="done"}} 1.0' in metrics

            first.close()
            first.enter_context(rig.ollama_engine(tmp_path / "one", port=port))
            await until(lambda: is_(site, "one", "loaded"))
            await until(lambda: logged(site, do="release", worker="two", done=True))
            assert await site.state("two") == ""
            (given_back,) = site.log(do="release", worker="two", done=True)
            assert given_back["reason"] == "one is back, and has it in memory"
            names = {it["name"] for it in rig.get(f"{two}/api/tags")["models"]}
            assert names == {"another:latest"}  # what it got for this is off its disk again


async def test_where_a_worker_cannot_have_it_another_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "GRACE", 0.0)
    gone = f"http://127.0.0.1:{free_port()}"
    with in_thread("127.0.0.1") as (card,), rig.ollama_engine(tmp_path / "two", model="another") as (two, _):
        first = Upstream("card", card.url, (), 1, 1, gpu_room=GB, ram_room=GB)  # its engine makes no models
        async with gateway(tmp_path, upstream("one", gone, MODEL), first, upstream("two", two)) as site:
            await until(lambda: is_(site, "two", "loaded"))
            failed = [it for it in site.log(do="fetch", worker="card") if "error" in it]
            assert len(failed) == 1
            assert failed[0]["again_in"] == 15
            metrics = await (await site.client.get("/metrics")).text()
            assert f'model_repairs_total{{do="fetch",model="{NAME}",result="failed"}} 1.0' in metrics


async def test_while_a_rollout_goes_on_and_where_nothing_fits_it_only_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "GRACE", 0.0)
    lease = tmp_path / "lease.json"
    lease.write_text(json.dumps({"owner": "ada@desk", "doing": "apply", "expires": time.time() + 3600}))
    gone = f"http://127.0.0.1:{free_port()}"
    with rig.ollama_engine(tmp_path / "two", model="another") as (two, _):
        async with gateway(
            tmp_path, upstream("one", gone, MODEL), upstream("two", two, ram=GB // 4), lease=lease
        ) as site:
            await until(lambda: logged(site, paused="ada@desk: apply"))
            await until(lambda: active(site, "two"))
            lease.write_text(json.dumps({"released": time.time()}))
            await until(lambda: logged(site, short=NAME))
            (line,) = site.log(short=NAME)
            assert line["reason"] == "two: needs 500 MB; free: 250 MB in RAM"
            assert not site.log(worker="two")
            metrics = await (await site.client.get("/metrics")).text()
            assert f'model_replicas_short{{model="{NAME}"}} 1.0' in metrics


async def test_an_engine_that_was_away_gets_back_what_it_had_in_memory(tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as first:
        one, process = first.enter_context(rig.ollama_engine(tmp_path / "one", port=port))
        async with gateway(tmp_path, upstream("one", one, MODEL)) as site:
            await until(lambda: is_(site, "one", "present"))
            await site.ask("POST", f"/api/v1/models/{NAME}/load")
            await until(lambda: is_(site, "one", "loaded"))
            process.stop(kill=True)
            await until(lambda: is_(site, "one", "missing"))
            first.close()
            first.enter_context(rig.ollama_engine(tmp_path / "one", port=port))
            await until(lambda: is_(site, "one", "loaded"))
            await until(lambda: logged(site, do="load", worker="one", done=True))
            assert [it["reason"] for it in site.log(do="load", worker="one", done=True)] == [
                "it was in memory before the engine was away"
            ]


async def test_an_engine_that_comes_and_goes_is_kept_out_and_told_of_while_another_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flapping, "FIRST", 4.0)
    monkeypatch.setattr(reconciler, "GRACE", 600.0)
    port = free_port()
    with contextlib.ExitStack() as engines:
        two, _ = engines.enter_context(rig.ollama_engine(tmp_path / "two"))
        one, process = engines.enter_context(rig.ollama_engine(tmp_path / "one", port=port))
        async with gateway(tmp_path, upstream("one", one, MODEL), upstream("two", two, MODEL)) as site:
            for fall in range(1, flapping.FREE + 2):
                await until(lambda: is_(site, "one", "present"))
                process.stop(kill=True)
                await until(lambda: is_(site, "one", "missing"))
                _, process = engines.enter_context(rig.ollama_engine(tmp_path / "one", port=port))
                asked = await site.ask(
                    "POST", "/api/generate", model=MODEL, prompt="Hi", options={"num_predict": 1}, stream=False
                )
                assert asked["done"], fall

            async def kept_out() -> bool:
                return any("kept out for 4 s" in it["reason"] for it in site.log("worker", worker="one", state="down"))

            await until(kept_out)
            await until(lambda: is_(site, "one", "present"))
            assert site.log("worker", worker="one")[-1]["state"] == "active"
