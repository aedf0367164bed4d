"""Keys, limits, the queue, usage, and prompts that are too long: over HTTP, on a real engine where it counts."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from cluster_ai import layout, settings
from cluster_ai.settings import LimitSettings
from tests.fakes import upstream as fake
from tests.fakes.upstream import Act
from tests.integration.test_gateway_faults import ASK, site, until
from tests.rig import cluster as rig
from tests.rig.processes import PATIENCE

pytestmark = pytest.mark.integration

SMALL, CONTEXT = "small", 64
LONG = "one two three four five six seven eight nine ten " * 12
FEW: dict[str, Any] = {"num_predict": 4, "temperature": 0}


@dataclass(frozen=True)
class Here:
    """Two gateways over one engine that share what they keep, as in a hand-over; one cuts, the other refuses."""

    cuts: str
    refuses: str
    log: Path
    spans: list[Span]  # that the first has sent

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        key: str = rig.TOKEN,
        at: str = "",
        method: str = "",
        more: Mapping[str, str] | None = None,
    ) -> Any:
        """Status, headers, and body. more: headers of the request."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **(more or {})}
        request = urllib.request.Request((at or self.cuts) + path, data, headers, method=method or None)
        try:
            headers, text = rig.fetch(request, timeout=PATIENCE)
        except urllib.error.HTTPError as e:
            return e.code, {k.lower(): v for k, v in e.headers.items()}, e.read()
        return 200, headers, text

    def make_key(self, name: str, **more: Any) -> str:
        made = json.loads(self.ask("/api/v1/keys", {"name": name, **more})[2])
        return str(made["key"])


@contextlib.contextmanager
def receiver() -> Iterator[tuple[str, list[Span]]]:
    """Of OpenTelemetry's protocol over HTTP; its address, and what it has got."""
    spans: list[Span] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("admission")
    credentials = folder / "credentials"
    credentials.mkdir()
    (credentials / layout.GATEWAY_TOKEN).write_text(rig.TOKEN + "\n")
    with receiver() as (traces, spans), rig.engine(folder / "engine") as url:
        model = rig.MODEL
        if rig.ollama() is not None:  # a model with a context that is soon full, as the cluster makes its own
            made = {"model": SMALL, "from": rig.MODEL, "parameters": {"num_ctx": CONTEXT}, "stream": False}
            rig.fetch(urllib.request.Request(f"{url}/api/create", json.dumps(made).encode()), timeout=PATIENCE)
            model = SMALL
        told = {
            "scheduler": "tcp://127.0.0.1:9",
            "upstreams": (settings.Upstream("w1", url, (model,), 1, 0),),
            "models": {model: CONTEXT},
        }
        cutting = rig.gateway_settings(**told, traces=traces)
        refusing = rig.gateway_settings(**told, context="refuse")
        one, two = folder / "one", folder / "two"
        with (
            rig.gateway(one, cutting, credentials, workers=1) as (first, process),
            rig.gateway(two, refusing, credentials, workers=1, state=one) as (second, _),
        ):
            yield Here(first, second, process.log, spans)


@pytest.fixture(scope="module")
def model() -> str:
    if rig.ollama() is None:
        pytest.skip("the embedded engine has one model, of a larger context")
    return SMALL


def test_a_key_lets_in_at_both_gateways_until_either_revokes_it(here: Here) -> None:
    key = here.make_key("anna")
    assert here.ask("/api/tags", key=key)[0] == here.ask("/api/tags", key=key, at=here.refuses)[0] == 200
    assert here.ask("/api/v1/keys/anna", method="DELETE", at=here.refuses)[0] == 200
    assert here.ask("/api/tags", key=key)[0] == here.ask("/api/tags", key=key, at=here.refuses)[0] == 401


def test_a_key_may_use_but_not_administer_unless_it_is_an_administrators(here: Here) -> None:
    user, admin = here.make_key("user"), here.make_key("boss", role="admin")
    assert here.ask("/api/v1/keys", key=user)[0] == 403
    assert here.ask("/api/v1/cluster/workers/w1/cordon", {}, key=user)[0] == 403
    names = [key["name"] for key in json.loads(here.ask("/api/v1/keys", key=admin)[2])["keys"]]
    assert {"user", "boss"} <= set(names)
    assert b"cai-" not in here.ask("/api/v1/keys", key=admin)[2]


def test_usage_is_what_the_engine_told_whichever_way_it_was_asked(here: Here, model: str) -> None:
    key = here.make_key("ben")
    prompt = {"model": model, "prompt": "Hi", "stream": False, "options": FEW}
    whole = json.loads(here.ask("/api/generate", prompt, key=key)[2])
    message = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    streamed = here.ask("/v1/chat/completions", {**message, "stream": True}, key=key)[2]
    assert b'"usage"' not in streamed  # nobody asked for it
    told = json.loads(here.ask("/v1/chat/completions", message, key=key, at=here.refuses)[2])["usage"]

    def seen() -> Any:
        return json.loads(here.ask("/api/v1/usage?by=user&by=model", key=key)[2])["lines"]

    rig.until(lambda: seen()[0]["requests"] == 3, what="the other gateway writes every few seconds")
    line = seen()[0]
    assert (line["user"], line["model"]) == ("ben", f"{model}:latest")
    assert line["prompt_tokens"] == whole["prompt_eval_count"] + 2 * told["prompt_tokens"]
    assert line["completion_tokens"] == whole["eval_count"] + 2 * told["completion_tokens"]
    assert line["seconds"] > 0
    assert here.ask("/api/v1/usage?user=token", key=key)[0] == 403


def test_people_who_ask_through_a_service_have_usage_and_limits_each(here: Here) -> None:
    service = here.make_key("webui", role="service", limits={"max_concurrent": 1})
    here.make_key("dora", limits={"requests_per_minute": 1})

    def ask(address: str) -> int:
        now = int(time.time())
        said = {"iss": "open-webui", "email": address, "iat": now, "exp": now + 300}
        person = {"X-OpenWebUI-User-Jwt": jwt.encode(said, service, algorithm="HS256")}
        prompt = {"model": rig.MODEL, "prompt": "Hi", "stream": False, "options": FEW}
        return int(here.ask("/api/generate", prompt, key=service, more=person)[0])

    assert ask("guest@example.org") == 200  # and the model is in memory: the next ones come within a minute
    assert [ask("dora@example.org"), ask("dora@example.org")] == [200, 429]
    rig.until(
        lambda: (
            {"dora", "guest@example.org"}
            <= {line["user"] for line in json.loads(here.ask("/api/v1/usage?by=user")[2])["lines"]}
        ),
        what="usage is written every few seconds",
    )
    assert b"webui" not in here.ask("/api/v1/usage?by=user")[2]


def test_a_request_is_a_part_of_its_clients_trace_and_is_found_in_the_log_by_it(here: Here, model: str) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    prompt = {"model": model, "prompt": "Hi", "stream": False, "options": FEW}
    here.ask("/api/generate", prompt, more={"traceparent": f"00-{trace}-{parent}-01"})

    def mine() -> dict[str, Span]:
        return {span.name: span for span in list(here.spans) if span.trace_id.hex() == trace}

    rig.until(lambda: len(mine()) == 2, what="spans are sent every few seconds")
    rig.until(lambda: trace in here.log.read_text(), what="the request in the log")
    request, upstream = mine()["POST /api/generate"], mine()["upstream w1"]
    assert request.parent_span_id.hex() == parent
    assert upstream.parent_span_id == request.span_id
    assert request.start_time_unix_nano <= upstream.start_time_unix_nano < upstream.end_time_unix_nano
    told = {fact.key: fact.value for fact in request.attributes}
    assert told["enduser.id"].string_value == "token"
    assert told["gen_ai.usage.output_tokens"].int_value > 0
    lines = [json.loads(line) for line in here.log.read_text().splitlines() if trace in line]
    assert [line["id"] for line in lines] == [told["cluster_ai.request_id"].string_value]


ALL = [
    ("/api/generate", {"prompt": LONG, "options": FEW}),
    ("/api/chat", {"messages": [{"role": "user", "content": LONG}], "options": FEW}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}], "max_tokens": 4}),
    ("/v1/completions", {"prompt": LONG, "max_tokens": 4}),
    ("/v1/messages", {"messages": [{"role": "user", "content": LONG}], "max_tokens": 4}),
    ("/v1/responses", {"input": LONG, "max_output_tokens": 4}),
    ("/api/v1/generate", {"prompt": LONG, "options": FEW}),
]


@pytest.mark.parametrize(("path", "body"), ALL, ids=[path for path, _ in ALL])
def test_a_prompt_that_is_too_long_is_never_cut_in_silence(
    here: Here, model: str, path: str, body: dict[str, Any]
) -> None:
    asked = {"model": model, "stream": False, **body}
    status, headers, text = here.ask(path, asked)
    assert (status, headers.get("x-cluster-context")) == (200, "truncated"), text
    status, headers, text = here.ask(path, asked, at=here.refuses)
    assert status == 400
    assert b"longer than the context" in text
    assert "x-cluster-context" not in headers


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_a_prompt_that_fits_is_not_called_too_long(here: Here, model: str, path: str) -> None:
    words = "one two three four five six seven eight nine ten"  # more bytes than the context has tokens, with its JSON
    body = {"model": model, "messages": [{"role": "user", "content": words}], "stream": False, "max_tokens": 2}
    status, headers, _ = here.ask(path, {**body, "options": FEW} if path == "/api/chat" else body, at=here.refuses)
    assert status == 200
    assert "x-cluster-context" not in headers


def test_the_command_line_makes_shows_and_revokes_keys_and_shows_usage(here: Here) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; from cluster_ai.cli.main import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", program, *arguments, "--gateway", here.cuts]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, "CLUSTER_AI_TOKEN": rig.TOKEN}
        )

    key = run("keys", "create", "carla", "--max-concurrent", "2").stdout.strip()
    assert here.ask("/api/tags", key=key)[0] == 200
    assert "carla" in run("keys", "list").stdout
    assert run("keys", "revoke", "carla").returncode == 0
    assert here.ask("/api/tags", key=key)[0] == 401
    again = run("keys", "revoke", "carla")
    assert again.returncode == 64
    assert "no key named 'carla'" in again.stderr
    assert run("usage", "--by", "user").returncode == 0


def test_the_command_line_measures_a_model_and_tells_when_it_became_slow(here: Here, tmp_path: Path) -> None:
    def bench(*more: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; from cluster_ai.cli.main import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", program, "bench", "--tokens", "8", "--gateway", here.cuts, *more]
        told = {**os.environ, "CLUSTER_AI_TOKEN": rig.TOKEN, "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, env=told, cwd=tmp_path)

    first = bench(SMALL, "--json")
    assert first.returncode == 0, first.stderr
    (told,) = json.loads(first.stdout)["results"]
    assert told["model"] == f"{SMALL}:latest"
    assert told["tokens_per_second"] > 0
    assert told["memory"] > 0
    assert told["warm_up"] > 0

    history = tmp_path / ".cluster-ai" / "bench.jsonl"
    history.write_text(json.dumps({**told, "tokens_per_second": 1e6}) + "\n")
    slow = bench(SMALL)
    assert slow.returncode == 2, slow.stderr
    assert "slower than when it was last measured" in slow.stdout
    assert len(history.read_text().splitlines()) == 2
    unknown = bench("nothing")
    assert unknown.returncode == 64
    assert "there is no model 'nothing'" in unknown.stderr


async def test_who_waits_takes_the_slot_of_a_client_that_leaves() -> None:
    async with fake.upstream(Act.SILENT) as engine, site(engine) as at:
        first = asyncio.create_task(at.ask())
        await until(lambda: len(engine.asked) == 1)
        second = asyncio.create_task(at.ask())
        async with asyncio.timeout(PATIENCE):
            while await at.metric('gateway_queue_length{model="fake:latest"}') != 1:  # noqa: ASYNC110 (it's another task's)
                await asyncio.sleep(0.02)
        assert len(engine.asked) == 1  # it waits here, and not in the engine
        first.cancel()
        assert (await second)[0] == 200
        assert await at.metric("gateway_queue_seconds_count") == 2
        assert await at.metric('gateway_queue_seconds_bucket{le="0.005"') == 1


async def test_a_full_queue_and_a_users_limits_are_told_in_each_apis_form() -> None:
    limits = LimitSettings(queue=0, requests_per_minute=2)
    async with fake.upstream(Act.SILENT) as engine, site(engine, limits=limits) as at:
        first = asyncio.create_task(at.ask())
        await until(lambda: len(engine.asked) == 1)
        status, headers, body = await at.ask("/v1/completions")
        assert (status, json.loads(body)["error"]["code"]) == (503, "queue_full")
        assert int(headers["Retry-After"]) >= 1
        status, headers, body = await at.ask("/v1/completions")
        assert (status, json.loads(body)["error"]["code"]) == (429, "rate_limit_exceeded")
        assert headers["x-ratelimit-limit-requests"] == "2"
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert "2 requests a minute" in json.loads((await at.ask())[2])["error"]
        assert await at.metric('gateway_refused_total{reason="user_limit"}') == 2
        first.cancel()


async def test_a_body_may_be_as_large_as_configured() -> None:
    async with fake.upstream() as engine, site(engine, limits=LimitSettings(max_body=1000)) as at:
        assert (await at.ask(prompt="x" * 900))[0] == 200
        assert (await at.ask(prompt="x" * 1000))[0] == 413
        assert (await at.ask("/api/v1/generate", prompt="x" * 1000))[0] == 413


async def test_a_request_that_takes_too_long_ends_with_a_reason() -> None:
    limits = LimitSettings(request_timeout=2)  # within which it comes to the engine
    async with fake.upstream(Act.SILENT) as engine, site(engine, limits=limits) as at:
        status, _, body = await at.ask()
        assert status == 504
        assert "longer than" in json.loads(body)["error"]
        await until(lambda: engine.left == 1)  # and the engine is free


async def test_a_stream_that_takes_too_long_ends_with_a_line_that_says_so() -> None:
    limits = LimitSettings(request_timeout=1)
    async with fake.upstream(Act.FALL_SILENT) as engine, site(engine, limits=limits) as at:
        async with at.client.post("/api/generate", json=ASK, timeout=aiohttp.ClientTimeout(total=PATIENCE)) as reply:
            lines = (await reply.read()).splitlines()
        assert "longer than" in json.loads(lines[-1])["error"]


def test_nothing_that_is_kept_has_a_key_in_it(here: Here, tmp_path_factory: pytest.TempPathFactory) -> None:
    key = here.make_key("frida")
    here.ask("/api/tags", key=key)
    here.ask(f"/k/{key}/api/tags")
    kept = [path for path in Path(tmp_path_factory.getbasetemp()).glob("admission*/*/*") if path.is_file()]
    assert any(path.name.startswith("keys.sqlite") for path in kept)
    assert not any(key.encode() in path.read_bytes() for path in kept)
