"""The native API of a real gateway, asked by the Python client; a real engine, and scripted ones for faults."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.client import (
    ApiError,
    AsyncClient,
    BadRequestError,
    ChatReply,
    Client,
    ConflictError,
    ForbiddenError,
    Message,
    NotFoundError,
    Text,
    UnauthorizedError,
)
from cluster_ai.gateway.api.native.routing import LONG
from cluster_ai.settings import Upstream
from tests.fakes import upstream as fake
from tests.fakes.upstream import Act, in_thread
from tests.rig import cluster as rig
from tests.rig.cluster import MODEL, TOKEN
from tests.rig.processes import free_port, until

pytestmark = pytest.mark.integration

FEW = {"num_predict": 4, "temperature": 0, "seed": 1}
LONG_PROMPT = "word " * LONG


@dataclass(frozen=True)
class Site:
    """here and there: scripted engines on the gateway's host, and on another one (of the same machine)."""

    url: str
    here: fake.Upstream
    there: fake.Upstream


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("native")
    head = rig.authority().credentials(folder / "head", "head", "head", token=TOKEN)
    with rig.engine(folder / "engine") as engine, in_thread("127.0.0.1", "127.0.0.2") as (here, there):
        here.loaded, there.loaded = [fake.MODEL], [fake.MODEL]
        told = rig.gateway_settings(
            scheduler="tcp://127.0.0.1:9",
            upstreams=(
                Upstream("real", engine, (MODEL,), 1, 0, ram_room=4 * 10**9),
                Upstream("here", here.url, ("fake",), 1, 0),
                Upstream("there", there.url, ("fake",), 1, 1),
            ),
        )
        with rig.gateway(folder / "gateway", told, head, workers=3) as (url, _):
            yield Site(url, here, there)


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    with Client(site.url, TOKEN) as made:
        yield made


@contextlib.contextmanager
def user(site: Site, name: str) -> Iterator[Client]:
    """One with a key who may not administer."""
    with Client(site.url, TOKEN) as admin:
        key = admin.create_key(name).key
        try:
            with Client(site.url, key) as made:
                yield made
        finally:
            admin.revoke_key(name)


def test_a_conversation_is_kept_turn_by_turn(client: Client) -> None:
    session = client.create_session(model=MODEL, system="Answer in one word.")
    first = client.chat([Message("user", "Say red.")], session=session.id, options=FEW)
    *pieces, last = client.stream_chat([Message("user", "Say blue.")], session=session.id, options=FEW)
    assert isinstance(last, ChatReply)
    assert first.session is not None
    assert last.session is not None
    assert (first.session.turns, last.session.turns) == (1, 2)
    assert (
        last.usage.prompt_tokens > first.usage.prompt_tokens + first.usage.completion_tokens
    )  # it read the first turn
    history = client.session(session.id)
    assert [(m.role, m.worker) for m in history.messages] == [("user", None), ("assistant", "real")] * 2
    assert history.messages[1].content == first.message.content
    assert history.messages[3].content == "".join(piece.text for piece in pieces if isinstance(piece, Text))
    assert history.title == "Say red."
    assert client.sessions()[0].id == session.id
    client.delete_session(session.id)
    with pytest.raises(NotFoundError):
        client.session(session.id)


def test_of_a_turn_that_its_client_left_nothing_is_kept(client: Client, site: Site) -> None:
    session = client.create_session(model="fake")
    site.here.script.append(Act.FALL_SILENT)
    stream = client.stream_chat([Message("user", "Hi")], session=session.id, mode="local")
    assert next(stream) == Text("a")
    with pytest.raises(ConflictError) as caught:  # the session waits for the turn's end
        client.chat([Message("user", "And?")], session=session.id)
    assert caught.value.code == "session_busy"
    stream.close()
    until(lambda: client.worker("here").in_flight == 0, what="the engine is free again")
    assert client.session(session.id).turns == 0
    reply = client.chat([Message("user", "Hi again")], session=session.id)
    assert reply.session is not None
    assert reply.session.turns == 1
    assert [m.content for m in client.session(session.id).messages] == ["Hi again", "aa"]
    client.delete_session(session.id)


def test_models_are_loaded_unloaded_and_told_of(client: Client) -> None:
    assert [outcome.done for outcome in client.load(MODEL, keep_alive="10m").workers] == [True]
    until(lambda: client.model(MODEL).loaded == ("real",), what="loaded")
    config = client.model_config(MODEL)
    assert (config.context, config.source) == (rig.CONTEXT, "cluster.yaml")
    if rig.ollama() is not None:  # the embedded engine has one model, for ever
        client.unload(MODEL, worker="real")
        until(lambda: client.model(MODEL).loaded == (), what="unloaded")


def test_a_model_is_told_with_what_its_engine_knows_and_how_it_is_on_each_worker(client: Client) -> None:
    client.load(MODEL)
    until(lambda: client.model(MODEL).loaded == ("real",), what="loaded")
    until(lambda: client.model(MODEL).family, what="its engine has told of it, which it must in a moment")
    model = client.model(MODEL)
    assert (model.family, model.quantization, model.license, model.context_limit) == (
        *("llama", "Q4_1", "apache-2.0"),
        8192,
    )
    assert model.digest
    assert model.size
    assert [(it.worker, it.state) for it in model.workers] == [("real", "loaded")]
    fakes = client.model("fake")
    assert [(it.worker, it.state) for it in fakes.workers] == [("here", "loaded"), ("there", "loaded")]


def test_why_a_model_is_where_it_is_is_told_of_every_worker(client: Client) -> None:
    client.load(MODEL)
    until(lambda: client.model(MODEL).loaded == ("real",), what="loaded")
    until(lambda: client.model(MODEL).family, what="its engine has told of it, which it must in a moment")
    found = client.explain_model(MODEL)
    assert found.memory.cache == 30 * 3 * 64 * 2 * 2 * rig.CONTEXT  # layers, heads, numbers, keys and values, bytes
    first, *others = found.workers
    assert (first.worker, first.state, first.holds, first.processor) == ("real", "loaded", True, "cpu")
    assert first.free_ram == 4 * 10**9
    assert first.why.startswith("placed in RAM, ")
    assert {it.why for it in others} == {"nobody said how much memory it has"}
    with pytest.raises(NotFoundError):
        client.explain_model("nix")


def test_what_cluster_yaml_says_is_not_changed_behind_its_back(client: Client) -> None:
    with pytest.raises(ConflictError, match="next apply"):
        client.set_model_config(MODEL, context=4096)
    with pytest.raises(ConflictError, match="remove it there"):
        client.unregister_worker("real")


def test_the_context_of_a_model_that_cluster_yaml_does_not_name_can_be_set(client: Client, site: Site) -> None:
    with in_thread("127.0.0.1") as (lent,):
        lent.models = ["own:latest"]
        client.register_worker("lent", lent.url)
        until(lambda: client.worker("lent").state == "active", what="checked")
        assert client.set_model_config("own", context=4096).source == "api"
        client.generate("own", "x")
        assert json.loads(lent.asked[-1])["options"]["num_ctx"] == 4096
        assert client.set_model_config("own", context=None).source == "engine"
        client.unregister_worker("lent")
    with pytest.raises(NotFoundError):
        client.worker("lent")


def test_a_short_prompt_stays_here_and_a_long_one_goes_to_the_strongest(client: Client) -> None:
    short, long = client.generate("fake", "x").routing, client.generate("fake", LONG_PROMPT).routing
    assert (short.mode, short.worker) == ("local", "here")
    assert "short" in short.reason
    assert (long.mode, long.worker) == ("distributed", "there")
    assert "long" in long.reason
    for _ in range(3):
        asked = client.generate("fake", LONG_PROMPT, mode="local").routing
        assert (asked.mode, asked.worker, asked.reason) == ("local", "here", "asked for")
    assert client.generate("fake", "x", mode="distributed").routing.mode == "distributed"


def test_where_the_engine_here_fails_another_steps_in_unless_local_was_asked_for(client: Client, site: Site) -> None:
    site.here.script.append(Act.ERROR_500)
    routing = client.generate("fake", "x").routing
    assert (routing.mode, routing.worker) == ("distributed", "there")
    assert "stepped in" in routing.reason
    site.here.script.append(Act.ERROR_500)
    with pytest.raises(ApiError) as caught:
        client.generate("fake", "x", mode="local")
    assert caught.value.status >= 500


def test_local_is_refused_where_no_engine_here_has_the_model(client: Client, site: Site) -> None:
    site.there.models.append("far:latest")
    until(lambda: client.model("far"), what="seen")
    with pytest.raises(ConflictError) as caught:
        client.generate("far", "x", mode="local")
    assert caught.value.code == "no_local_engine"
    assert client.generate("far", "x").routing.mode == "distributed"


def test_a_template_fills_the_prompt_and_its_system_prompt(client: Client, site: Site) -> None:
    client.put_template("explain", "Explain {{topic}}.", system="To {{who}}.")
    variables = {"topic": "{{who}}", "who": "a child"}
    client.generate("fake", template="explain", variables=variables, mode="local")
    sent = json.loads(site.here.asked[-1])
    assert (sent["prompt"], sent["system"]) == ("Explain {{who}}.", "To a child.")
    client.chat(
        [Message("user", "Hi")], model="fake", template="explain", variables=variables, system="Own.", mode="local"
    )
    said = json.loads(site.here.asked[-1])["messages"]
    assert [(m["role"], m["content"]) for m in said] == [
        ("system", "Own."),
        ("user", "Hi"),
        ("user", "Explain {{who}}."),
    ]
    with pytest.raises(BadRequestError, match="'who'"):
        client.generate("fake", template="explain", variables={"topic": "tides"})
    with pytest.raises(BadRequestError, match="'who'"):
        next(client.stream_generate("fake", template="explain", variables={"topic": "tides"}))
    client.delete_template("explain")


def test_who_may_not_administer_uses_the_cluster_and_sees_only_their_own(site: Site, client: Client) -> None:
    with user(site, "anna") as anna:
        session = anna.create_session(model="fake")
        assert anna.chat([Message("user", "Hi")], session=session.id).session is not None
        anna.put_template("mine", "text")
        assert session.id not in [s.id for s in client.sessions()]
        with pytest.raises(NotFoundError):
            client.session(session.id)
        with pytest.raises(NotFoundError):
            client.template("mine")
        for forbidden in (
            lambda: anna.drain("here"),
            lambda: anna.resume("here"),
            lambda: anna.register_worker("x", "http://127.0.0.1:1"),
            lambda: anna.unregister_worker("here"),
            lambda: anna.load("fake"),
            lambda: anna.set_model_config("fake", context=4096),
            lambda: anna.put_template("all", "text", shared=True),
            lambda: anna.delete_template("all", shared=True),
            lambda: anna.create_key("eve", role="admin"),
        ):
            with pytest.raises(ForbiddenError):
                forbidden()
        anna.delete_session(session.id)
    with Client(site.url, "cai-none") as nobody, pytest.raises(UnauthorizedError):
        nobody.status()


def test_figures_tell_what_was_done(client: Client) -> None:
    before = client.metrics()
    client.generate("fake", "x", mode="local")
    after = client.metrics()
    assert after.inferences_total == before.inferences_total + 1
    assert after.requests_total > before.requests_total
    assert after.response_time.p50 is not None
    assert after.tokens_total == before.tokens_total + 2
    assert client.worker_metrics("here").requests_ok >= 1
    assert {w.name for w in client.workers()} == {"real", "here", "there"} == {w.name for w in client.status().workers}


async def test_with_asyncio_it_is_the_same(site: Site) -> None:
    async with AsyncClient(site.url, TOKEN) as client:
        pieces = [piece async for piece in client.stream_chat([Message("user", "Hi")], model=MODEL, options=FEW)]
        assert isinstance(pieces[-1], ChatReply)
        assert all(isinstance(piece, Text) for piece in pieces[:-1])
        assert (await client.drain("there", "new fans")).state == "draining"
        assert (await client.resume("there")).state == "active"


def test_a_registered_worker_lasts_over_a_restart_until_it_is_unregistered(tmp_path: Path) -> None:
    head = rig.authority().credentials(tmp_path / "head", "head", "head", token=TOKEN)
    with in_thread("127.0.0.1") as (lent,):
        told = rig.gateway_settings(scheduler="tcp://127.0.0.1:9", upstreams=())
        with rig.gateway(tmp_path / "gateway", told, head, workers=0) as (url, _), Client(url, TOKEN) as client:
            client.register_worker("lent", lent.url, slots=3)
            with pytest.raises(ConflictError):
                client.register_worker("again", lent.url)
            with pytest.raises(ConflictError, match="no certificates"):
                client.register_worker("other", "https://other:11443")
            client.cordon("lent", "new fans")
            session = client.create_session(title="kept")
        with rig.gateway(tmp_path / "gateway", told, head, workers=0) as (url, _), Client(url, TOKEN) as client:
            until(lambda: client.worker("lent").models, what="checked")
            worker = client.worker("lent")
            assert (worker.slots, worker.state) == (3, "draining")
            assert worker.cordon is not None
            assert client.session(session.id).title == "kept"
            client.resume("lent")
            assert client.generate("fake", "x").worker == "lent"
            client.unregister_worker("lent")
            assert client.workers() == ()


def test_a_worker_that_registers_must_show_the_clusters_certificate(tmp_path: Path) -> None:
    own, foreign = rig.authority(), rig.authority()
    head = own.credentials(tmp_path / "head", "head", "head", token=TOKEN)
    ports = {"lent": free_port(), "stranger": free_port()}
    keys = {
        "lent": own.credentials(tmp_path / "lent", "lent", "worker"),
        "stranger": foreign.credentials(tmp_path / "stranger", "stranger", "worker"),
    }
    with in_thread("127.0.0.1") as (engine,), contextlib.ExitStack() as stack:
        for name, port in ports.items():
            stack.enter_context(rig.front(tmp_path / f"{name}-front", keys[name], engine.url, port))
        told = rig.gateway_settings(upstreams=())
        url, _ = stack.enter_context(rig.gateway(tmp_path / "gateway", told, head, workers=0))
        client = stack.enter_context(Client(url, TOKEN))
        for name, port in ports.items():
            client.register_worker(name, f"https://localhost:{port}")
        until(lambda: client.worker("lent").state == "active", what="the cluster's own")
        until(lambda: client.worker("stranger").state == "down", what="the stranger")
        assert "certificate" in str(client.worker("stranger").reason).lower()
        assert client.generate("fake", "x").worker == "lent"


def test_the_examples_of_the_documentation_run(site: Site) -> None:
    text = (Path(__file__).parents[2] / "docs" / "python-client.md").read_text()
    examples = [it for it in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "submit_task" not in it]
    assert len(examples) >= 4
    for example in examples:
        code = (
            example.replace("https://head:11435", site.url).replace("gpu-worker-01", "here").replace("smollm2", "fake")
        )
        space: dict[str, Any] = {"token": TOKEN, "__name__": "example"}
        exec(compile(code, "docs/python-client.md", "exec"), space)


@pytest.mark.browser
@pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs chromium")
def test_the_page_sends_requests_with_the_token_that_it_is_given(site: Site) -> None:
    from selenium import webdriver
    from selenium.webdriver.common.by import By

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.binary_location = str(shutil.which("chromium"))
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
    try:
        browser.get(f"{site.url}/api/v1/docs")
        until(lambda: "token is required" in browser.find_element(By.ID, "told").text, what="that a token is missing")
        browser.find_element(By.ID, "token").send_keys(TOKEN)
        browser.find_element(By.CSS_SELECTOR, "#login button").click()
        until(lambda: browser.find_element(By.ID, "generate"), what="the operations")
        operation = browser.find_element(By.ID, "generate")
        operation.find_element(By.TAG_NAME, "summary").click()
        body = operation.find_element(By.TAG_NAME, "textarea")
        assert json.loads(str(body.get_property("value")))["model"] == "smollm2"  # the example
        body.clear()
        body.send_keys('{"model": "fake", "prompt": "x", "stream": true}')
        operation.find_element(By.XPATH, ".//button[text()='Send']").click()
        until(lambda: operation.find_element(By.CSS_SELECTOR, "[role=status]").text.startswith("200"), what="an answer")
        last = json.loads(operation.find_element(By.TAG_NAME, "pre").text.splitlines()[-1])
        assert last["routing"]["worker"] in ("here", "there")
        loaded = browser.execute_script("return performance.getEntriesByType('resource').map(it => it.name)")
        assert all(name.startswith(site.url) for name in loaded)
    finally:
        browser.quit()
