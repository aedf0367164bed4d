"""The gateway before two real engines, each behind its TLS front."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ollama
import pytest

from cluster_ai import settings
from cluster_ai.settings import Upstream
from tests.rig import cluster as rig
from tests.rig.cluster import MODEL, TOKEN
from tests.rig.processes import PATIENCE, Process, free_port, running, until

pytestmark = pytest.mark.integration

HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
SHORT = {"num_predict": 8, "temperature": 0, "seed": 1}


@dataclass(frozen=True)
class Site:
    folder: Path
    head: Path  # credentials
    worker: Path
    engines: tuple[str, str]

    @contextlib.contextmanager
    def fronts(self, name: str) -> Iterator[tuple[tuple[Upstream, Process], ...]]:
        ports = (free_port(), free_port())
        with contextlib.ExitStack() as stack:
            yield tuple(
                (
                    Upstream(f"w{i}", f"https://127.0.0.1:{port}", (MODEL,), 1, 0),
                    stack.enter_context(rig.front(self.folder / f"{name}-front{i}", self.worker, engine, port)),
                )
                for i, (engine, port) in enumerate(zip(self.engines, ports, strict=True), 1)
            )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    authority = rig.authority()
    head = authority.credentials(folder / "head", "head", "head", token=TOKEN)
    worker = authority.credentials(folder / "worker", "w1", "worker")
    with rig.engine(folder / "engine1") as first, rig.engine(folder / "engine2") as second:
        yield Site(folder, head, worker, (first, second))


@pytest.fixture(scope="module")
def url(site: Site) -> Iterator[str]:
    with site.fronts("shared") as fronts:
        told = rig.gateway_settings(upstreams=tuple(u for u, _ in fronts))
        with rig.gateway(site.folder / "gateway", told, site.head, workers=2) as (address, _):
            yield address


def post(url: str, path: str, body: dict[str, Any], timeout: float = PATIENCE) -> tuple[dict[str, str], bytes]:
    request = urllib.request.Request(url + path, json.dumps(body).encode(), HEADERS)
    return rig.fetch(request, timeout=timeout)


def metric(url: str, line: str) -> float:
    request = urllib.request.Request(f"{url}/metrics", headers=HEADERS)
    text = rig.fetch(request)[1].decode()
    return sum(float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line))


def test_a_stream_comes_in_ollamas_lines_and_names_its_worker(url: str) -> None:
    headers, body = post(url, "/api/generate", {"model": MODEL, "prompt": "Hello", "options": SHORT})
    lines = [json.loads(line) for line in body.splitlines()]
    assert headers["content-type"] == "application/x-ndjson"
    assert headers["x-cluster-worker"] in ("w1", "w2")
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["eval_count"] == 8


def test_a_whole_answer_says_the_same_as_the_stream(url: str) -> None:
    asked = {"model": MODEL, "prompt": "Hello", "options": SHORT}
    _, streamed = post(url, "/api/generate", asked)
    _, whole = post(url, "/api/generate", {**asked, "stream": False})
    assert json.loads(whole)["response"] == "".join(json.loads(line)["response"] for line in streamed.splitlines())


def test_ollamas_own_client_works_with_the_address_and_the_token(url: str) -> None:
    with ollama.Client(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE) as client:
        _use(client)


def _use(client: ollama.Client) -> None:
    assert [m.model for m in client.list().models] == [f"{MODEL}:latest"]
    chat = client.chat(MODEL, [{"role": "user", "content": "Say hi."}], options=SHORT)
    assert chat.message.content
    pieces = list(client.generate(MODEL, "Count:", stream=True, options=SHORT))
    assert pieces[-1].done
    assert client.show(MODEL).details
    until(lambda: client.ps().models, what="the model seen as loaded")
    with pytest.raises(ollama.ResponseError, match="model 'nothing' not found") as caught:
        client.chat("nothing", [])
    assert caught.value.status_code == 404


def test_the_native_answer_says_who_gave_it_and_how_fast(url: str) -> None:
    _, body = post(url, "/api/v1/generate", {"model": MODEL, "prompt": "Hello", "options": SHORT})
    answer = json.loads(body)
    assert answer["worker"] in ("w1", "w2")
    assert answer["response"]
    assert 0 < answer["time_to_first_token"] <= answer["total_time"]
    assert answer["tokens_per_second"] > 0
    assert answer["usage"]["completion_tokens"] == 8
    _, body = post(url, "/api/v1/generate", {"model": MODEL, "prompt": "Hello", "options": SHORT, "stream": True})
    *pieces, last = [json.loads(line) for line in body.splitlines()]
    assert "".join(p["response"] for p in pieces) == answer["response"]
    assert last["done"]
    assert last["usage"] == answer["usage"]


def test_the_lists_tell_of_every_model_and_worker(url: str) -> None:
    post(url, "/api/generate", {"model": MODEL, "prompt": "Hello", "options": SHORT, "stream": False})
    until(lambda: rig.get(f"{url}/api/v1/models", token=TOKEN)["models"][0]["loaded"], what="seen as loaded")
    (model,) = rig.get(f"{url}/api/v1/models", token=TOKEN)["models"]
    assert model["name"] == f"{MODEL}:latest"
    assert model["present"] == ["w1", "w2"]
    assert model["replicas"] == 2
    assert model["size"] > 50_000_000
    assert rig.get(f"{url}/api/v1/models/{MODEL}", token=TOKEN)["name"] == model["name"]
    status = rig.get(f"{url}/api/v1/cluster/status", token=TOKEN)
    assert (status["total_workers"], status["active_workers"]) == (2, 2)
    assert status["scheduler_connected"] is False  # there is none: it serves on all the same
    assert [w["state"] for w in status["workers"]] == ["active", "active"]
    assert rig.get(f"{url}/v1/models", token=TOKEN)["data"][0]["id"] == f"{MODEL}:latest"
    assert rig.get(f"{url}/api/v1/openapi.json", token=TOKEN)["paths"]["/api/v1/generate"]


def test_openais_form_passes_too(url: str) -> None:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    _, body = post(url, "/v1/chat/completions", asked)
    assert json.loads(body)["choices"][0]["message"]["content"]
    _, body = post(url, "/v1/chat/completions", {**asked, "stream": True})
    assert body.rstrip().endswith(b"data: [DONE]")


def test_metrics_count_requests_tokens_and_loads(url: str) -> None:
    tokens = metric(url, "model_tokens_generated_total{")
    tasks = metric(url, 'cluster_total_tasks_total{kind="inference"}')
    post(url, "/api/generate", {"model": MODEL, "prompt": "Hello", "options": SHORT})
    assert metric(url, "model_tokens_generated_total{") == tokens + 8
    assert metric(url, 'cluster_total_tasks_total{kind="inference"}') == tasks + 1
    assert metric(url, "cluster_active_workers") == 2
    assert metric(url, "worker_model_loaded{") >= 1
    assert 0 <= metric(url, f'model_cache_hit_rate{{model="{MODEL}:latest"}}') <= 1


def test_without_a_token_nothing_but_health_is_told(url: str) -> None:
    for path in ("/api/tags", "/metrics", "/api/v1/cluster/status", "/v1/models", "/api/v1/openapi.json"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            rig.get(url + path)
        assert caught.value.code == 401
        assert caught.value.headers["WWW-Authenticate"].startswith("Bearer")
        assert "error" in json.load(caught.value)
    assert rig.get(f"{url}/health")["status"] == "ok"


def test_a_front_lets_in_nobody_without_the_clusters_certificate(site: Site) -> None:
    with site.fronts("stranger") as fronts:
        context = ssl.create_default_context(cafile=site.worker / "ca.pem")
        with pytest.raises((urllib.error.HTTPError, urllib.error.URLError)) as caught:
            rig.fetch(f"{fronts[0][0].url}/api/tags", context=context)
        assert "400" in str(caught.value) or "certificate" in str(caught.value).lower()


def test_the_engine_is_free_again_after_its_client_has_left(url: str, site: Site) -> None:
    # Counting, with nothing left to chance, never ends by itself: the engine's only slot would be taken for minutes.
    asked = {"model": MODEL, "prompt": "1, 2, 3, 4, 5, 6,", "raw": True, "options": {**SHORT, "num_predict": 20_000}}
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", "/api/generate", json.dumps(asked), HEADERS)
        with connection.getresponse() as reply:
            worker = reply.headers["X-Cluster-Worker"]
            lines = [reply.readline() for _ in range(20)]
    assert all(lines), lines
    until(lambda: metric(url, f'gateway_in_flight{{worker="{worker}"}}') == 0, within=5)
    engine = site.engines[int(worker[1]) - 1]
    post(engine, "/api/generate", {**asked, "options": {"num_predict": 1}, "stream": False})
    until(lambda: metric(url, 'gateway_requests_total{code="499",route="/api/generate"}') >= 1)


def test_a_client_that_leaves_before_the_first_token_frees_the_worker_too(url: str) -> None:
    body = json.dumps({"model": MODEL, "prompt": "word " * 1800, "options": {**SHORT, "num_predict": 20_000}})
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)
    connection.request("POST", "/api/generate", body, HEADERS)
    until(lambda: metric(url, "gateway_in_flight{") == 1)
    connection.close()
    until(lambda: metric(url, "gateway_in_flight{") == 0, within=5)


def test_a_lost_worker_costs_no_request(site: Site) -> None:
    with site.fronts("lost") as fronts:
        told = rig.gateway_settings(upstreams=tuple(u for u, _ in fronts), policy="round_robin")
        with rig.gateway(site.folder / "lost", told, site.head, workers=2) as (url, _):
            asked = {"model": MODEL, "prompt": "Hello", "options": {"num_predict": 2}, "stream": False}
            assert {post(url, "/api/generate", asked)[0]["x-cluster-worker"] for _ in range(2)} == {"w1", "w2"}
            fronts[0][1].stop(kill=True)
            assert {post(url, "/api/generate", asked)[0]["x-cluster-worker"] for _ in range(4)} == {"w2"}
            until(lambda: metric(url, "cluster_active_workers") == 1)
            (down,) = (w for w in rig.get(f"{url}/api/v1/cluster/status", token=TOKEN)["workers"] if w["name"] == "w1")
            assert down["state"] == "down"
            assert down["reason"]
            fronts[1][1].stop(kill=True)
            until(lambda: metric(url, "cluster_active_workers") == 0)
            with pytest.raises(urllib.error.HTTPError) as caught:
                post(url, "/api/generate", asked)
            assert caught.value.code == 503
            assert caught.value.headers["Retry-After"]


def test_a_drained_worker_gets_nothing_new_until_it_is_resumed(url: str) -> None:
    asked = {"model": MODEL, "prompt": "Hello", "options": {"num_predict": 1}, "stream": False}
    post(url, "/api/v1/cluster/workers/w1/drain", {})
    try:
        assert {post(url, "/api/generate", asked)[0]["x-cluster-worker"] for _ in range(3)} == {"w2"}
        states = {w["name"]: w["state"] for w in rig.get(f"{url}/api/v1/cluster/status", token=TOKEN)["workers"]}
        assert states == {"w1": "draining", "w2": "active"}
    finally:
        post(url, "/api/v1/cluster/workers/w1/resume", {})
    until(lambda: metric(url, "cluster_active_workers") == 2)


def test_sigterm_lets_a_stream_end_and_takes_no_new_connection(site: Site) -> None:
    with site.fronts("term") as fronts:
        told = rig.gateway_settings(upstreams=tuple(u for u, _ in fronts))
        with rig.gateway(site.folder / "term", told, site.head, workers=2) as (url, process):
            got: list[bytes] = []
            first = threading.Event()

            def stream() -> None:
                body = json.dumps({"model": MODEL, "prompt": "Tell.", "options": {"num_predict": 60, "temperature": 0}})
                request = urllib.request.Request(f"{url}/api/generate", body.encode(), HEADERS)
                with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
                    for line in reply:
                        got.append(line)
                        first.set()

            reader = threading.Thread(target=stream)
            reader.start()
            assert first.wait(PATIENCE)
            process.popen.send_signal(signal.SIGTERM)

            def refused() -> bool:
                with socket.socket() as s:
                    return s.connect_ex((told.host, told.port)) != 0

            until(refused)
            reader.join(PATIENCE)
            assert json.loads(got[-1])["done"] is True
            assert process.popen.wait(PATIENCE) == 0


def test_it_serves_on_a_socket_that_systemd_hands_over(site: Site) -> None:
    with site.fronts("fd") as fronts, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        path = site.folder / "fd.json"
        # Its own port is taken, so that only the handed one can answer.
        path.write_text(settings.dump(rig.gateway_settings(upstreams=tuple(u for u, _ in fronts), port=port)))
        starter = (
            f"import os; os.dup2({listener.fileno()}, 3); os.set_inheritable(3, True);"
            " os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
            f" os.execv({sys.executable!r}, [{sys.executable!r}, '-m', 'cluster_ai.gateway', {str(path)!r}])"
        )
        with running(
            [sys.executable, "-c", starter],
            site.folder / "fd.log",
            environment={"CREDENTIALS_DIRECTORY": str(site.head)},
            pass_fds=[listener.fileno()],
            until_ready=lambda: rig.get(f"http://127.0.0.1:{port}/health")["workers"] == 2,
        ) as process:
            process.popen.send_signal(signal.SIGTERM)
            assert process.popen.wait(PATIENCE) == 0
        assert os.fstat(listener.fileno())


def test_the_log_is_json_with_request_ids(site: Site, url: str) -> None:
    request = urllib.request.Request(f"{url}/api/tags", headers={**HEADERS, "X-Request-Id": "mine-1"})
    assert rig.fetch(request)[0]["x-request-id"] == "mine-1"
    log = site.folder / "gateway" / "gateway.log"

    def told() -> bool:  # a request is logged when its answer has gone
        lines = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return any(line.get("id") == "mine-1" and line["path"] == "/api/tags" for line in lines)

    until(told, what="the request in the log")


def chat(url: str, messages: list[dict[str, str]], **headers: str) -> tuple[str, str]:
    """The worker that answered, and what."""
    body = json.dumps({"model": MODEL, "messages": messages, "stream": False, "options": {**SHORT, "num_predict": 4}})
    request = urllib.request.Request(f"{url}/api/chat", body.encode(), {**HEADERS, **headers})
    told, answer = rig.fetch(request, timeout=PATIENCE)
    return told["x-cluster-worker"], json.loads(answer)["message"]["content"]


def test_a_conversation_stays_on_its_worker_and_moves_when_that_is_full(url: str) -> None:
    affinity = {"X-Cluster-Policy": "affinity"}
    messages = [{"role": "user", "content": f"{'A long story of rivers. ' * 20} What is it about?"}]
    went = []

    def turn() -> None:
        worker, answer = chat(url, messages, **affinity)
        went.append(worker)
        messages.extend([{"role": "assistant", "content": answer}, {"role": "user", "content": "And then?"}])

    for _ in range(3):
        turn()
    (home,) = set(went)
    (other,) = {"w1", "w2"} - {home}
    asked = {"model": MODEL, "prompt": "1, 2, 3, 4, 5, 6,", "raw": True, "options": {**SHORT, "num_predict": 20_000}}
    with contextlib.closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)) as connection:
        connection.request("POST", "/api/generate", json.dumps(asked), {**HEADERS, "X-Cluster-Worker": home})
        with connection.getresponse() as reply:
            assert reply.headers["X-Cluster-Worker"] == home
            assert reply.readline()
            turn()
    assert went[-1] == other
    until(lambda: metric(url, f'gateway_in_flight{{worker="{home}"}}') == 0, within=10)
    turn()
    assert went[-1] == other  # its cache is there now


def test_a_request_may_ask_for_a_policy_and_for_a_worker(url: str) -> None:
    hello = [{"role": "user", "content": "Hello"}]
    for worker in ("w1", "w2", "w2"):
        assert chat(url, hello, **{"X-Cluster-Worker": worker})[0] == worker
    assert {chat(url, hello, **{"X-Cluster-Policy": "round_robin"})[0] for _ in range(2)} == {"w1", "w2"}
    for header, value, status, words in (
        ("X-Cluster-Policy", "fastest", 400, "allowed: affinity, least_loaded, resource_aware, round_robin"),
        ("X-Cluster-Worker", "w9", 404, "there is no worker 'w9'"),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            chat(url, hello, **{header: value})
        assert caught.value.code == status
        assert words in json.load(caught.value)["error"]
