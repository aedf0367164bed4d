"""Other people's clients work with the gateway by its address alone: real packages, the real CLI, real engines.

The packages have an environment of their own (requirements/clients.lock, `make test`); tests/clients/ is run there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.settings import Upstream
from tests.rig import cluster as rig
from tests.rig.cluster import MODEL
from tests.rig.processes import PATIENCE, REPOSITORY, free_port, until
from tests.rig.registry import registry

PYTHON = os.environ.get("CLUSTER_AI_CLIENTS", "")
KEY = "a-key-for-tests"
ROUND = 400  # seconds for one client's whole, on a machine that does much else

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(rig.ollama() is None, reason="the embedded engine has no calls that change models"),
]
packages = pytest.mark.skipif(
    not PYTHON, reason="CLUSTER_AI_CLIENTS names no Python that has requirements/clients.lock: run `make test`"
)


@dataclass(frozen=True)
class Site:
    folder: Path
    url: str
    engines: tuple[str, str]

    @property
    def address(self) -> str:
        """All that a client is given."""
        return f"{self.url}/k/{KEY}"

    def log(self) -> str:
        return (self.folder / "gateway" / "gateway.log").read_text()

    def answer(self, path: str) -> str:
        try:
            headers, body = rig.fetch(self.url + path)
        except urllib.error.HTTPError as e:
            with e:
                return f"{e.headers} {e.read().decode()}"
        return f"{headers} {body.decode()}"

    def use(self, client: str) -> dict[str, Any]:
        script = REPOSITORY / "tests" / "clients" / f"use_{client}.py"
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        done = subprocess.run(
            [PYTHON, str(script), self.address, MODEL],
            env=environment,
            capture_output=True,
            text=True,
            timeout=ROUND,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def cli(self, *arguments: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
        environment = {"OLLAMA_HOST": f"{self.url}/k/{key}", "HOME": str(self.folder)}
        command = [str(rig.ollama()), *arguments]
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("clients")
    authority = rig.authority()
    head = authority.credentials(folder / "head", "head", "head", token=KEY)
    worker = authority.credentials(folder / "worker", "w1", "worker")
    ports = free_port(), free_port()
    upstreams = tuple(Upstream(f"w{i}", f"https://127.0.0.1:{port}", (MODEL,), 1, 0) for i, port in enumerate(ports, 1))
    with (
        rig.engine(folder / "engine1") as first,
        rig.engine(folder / "engine2") as second,
        rig.front(folder / "front1", worker, first, ports[0]),
        rig.front(folder / "front2", worker, second, ports[1]),
        rig.gateway(folder / "gateway", rig.gateway_settings(upstreams=upstreams), head, workers=2) as (url, _),
    ):
        yield Site(folder, url, (first, second))


def names(engine: str) -> set[str]:
    return {m["name"].removesuffix(":latest") for m in rig.get(f"{engine}/api/tags")["models"]}


@packages
def test_the_ollama_package_works(site: Site) -> None:
    found = site.use("ollama")
    assert found["chat"]
    assert found["stream"] == found["whole"] != ""
    assert found["format"] == {"a": "x"}
    assert found["embedding"] == 2
    assert set(found["listed"]) == {f"{name}:latest" for name in (MODEL, "made", "copied")}
    assert found["left"] == [f"{MODEL}:latest"]
    assert found["system"]
    assert found["deleted"] == ["success", "success"]
    assert found["unknown"] == [404, "model 'nothing' not found"]
    assert found["reasons"] == ["load", "unload"]


@packages
def test_the_openai_package_works(site: Site) -> None:
    found = site.use("openai")
    assert found["models"] == [f"{MODEL}:latest"]
    assert found["model"] == MODEL
    assert found["chat"] == found["stream"] != ""
    assert found["tokens"] == found["logprobs"] == 4
    assert found["usage"] == [4]
    assert found["format"] == {"a": "x"}
    assert found["completion"]
    assert found["embeddings"] == 2
    assert found["response"]
    assert found["response_events"] == ["response.created", "response.completed"]
    unknown = ["NotFoundError", 404, "model_not_found", "model", "invalid_request_error"]
    assert found["unknown"] == found["no_model"] == unknown
    assert found["tools"][:2] == found["bad"][:2] == ["BadRequestError", 400]
    assert found["wrong_key"] == ["AuthenticationError", 401, "invalid_api_key", None, "invalid_request_error"]


@packages
def test_langchain_works_by_both_apis(site: Site) -> None:
    found = site.use("langchain")
    assert found["ollama"] == found["ollama_sized"] == found["ollama_stream"] != ""
    assert found["openai"] == found["openai_stream"] != ""
    assert found["ollama_text"]
    assert found["openai_usage"] == 4  # the most tokens that it asked for, by OpenAI's newer name for it
    assert found["ollama_embedding"] == found["openai_embedding"] == 2
    assert {m["context_length"] for e in site.engines for m in rig.get(f"{e}/api/ps")["models"]} == {rig.CONTEXT}


@packages
def test_litellm_works_by_each_api(site: Site) -> None:
    found = site.use("litellm")
    for provider in ("ollama_chat", "ollama", "openai", "anthropic"):
        assert found[provider] == found[f"{provider}_stream"] != "", provider
    assert found["ollama_embedding"] == found["openai_embedding"] == 2
    assert found["openai_unknown"] == found["anthropic_unknown"] == ["NotFoundError", 404]


def test_the_ollama_cli_asks(site: Site) -> None:
    assert MODEL in site.cli("list").stdout
    assert "134" in site.cli("show", MODEL).stdout
    assert site.cli("run", MODEL, "Say hi.").stdout.strip()
    until(lambda: MODEL in site.cli("ps").stdout, what="the model among the loaded")
    assert site.cli("stop", MODEL).returncode == 0
    until(lambda: not any(rig.get(f"{e}/api/ps")["models"] for e in site.engines), what="out of every engine's memory")


def test_the_ollama_cli_makes_and_removes_models_on_every_worker(site: Site) -> None:
    weights = bytearray(rig.weights().read_bytes())
    weights[-1] ^= 1  # a file that no worker has
    (site.folder / "other.gguf").write_bytes(weights)
    modelfile = site.folder / "Modelfile"
    modelfile.write_text("FROM ./other.gguf\nSYSTEM Be brief.\n")
    made = site.cli("create", "mine", "-f", str(modelfile))
    assert made.returncode == 0, made.stderr
    assert site.cli("cp", "mine", "other/yours").returncode == 0
    for engine in site.engines:
        assert {"mine", "other/yours"} <= names(engine)
    assert "Be brief." in site.cli("show", "other/yours", "--system").stdout
    assert not any((site.folder / "gateway" / "blobs").iterdir())  # the workers have it
    removed = site.cli("rm", "mine", "other/yours")
    assert removed.returncode == 0, removed.stderr
    assert [names(engine) for engine in site.engines] == [{MODEL}, {MODEL}]


def test_the_ollama_cli_pulls_onto_every_worker(site: Site) -> None:
    with registry(site.folder / "engine1" / "models") as address:
        name = f"{address}/library/{MODEL}"
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        body = json.dumps({"model": name, "insecure": True}).encode()
        pull = urllib.request.Request(f"{site.url}/api/pull", body, headers)
        lines = [json.loads(line) for line in rig.fetch(pull, timeout=PATIENCE)[1].splitlines()]
        # Workers' progress is told as one: that of the manifest may be over before anything was told.
        assert lines[0]["status"].startswith("pulling ")
        assert lines[-1] == {"status": "success"}
        assert any(line.get("completed") == line.get("total", -1) > 50_000_000 for line in lines)
        pulled = site.cli("pull", "--insecure", name)
        assert pulled.returncode == 0, pulled.stderr
    for engine in site.engines:
        assert name in names(engine)
    assert site.cli("run", name, "Say hi.").stdout.strip()
    assert site.cli("rm", name).returncode == 0


def test_the_ollama_cli_is_told_what_went_wrong(site: Site) -> None:
    assert "model 'nothing' not found" in site.cli("rm", "nothing").stderr
    assert "no account at ollama.com" in site.cli("push", MODEL).stderr
    pulled = site.cli("pull", "127.0.0.1:9/no/registry")
    assert pulled.returncode == 1
    assert re.search(r"connect|refused|https", pulled.stderr)
    assert "key in the path is not valid" in site.cli("list", key="wrong-key").stderr


def test_a_key_in_a_path_is_in_no_log(site: Site) -> None:
    for key in (KEY, "wrong-key"):
        for path in ("/api/tags", "/api/nothing", "/v1/models/nothing", "/api/v1/nothing", ""):
            assert key not in site.answer(f"/k/{key}{path}")
    until(lambda: '"/api/v1/nothing"' in site.log(), what="the last request in the log")
    assert KEY not in site.log()
    assert "wrong-key" not in site.log()


def test_a_model_of_the_configuration_keeps_its_context_size_whoever_makes_it_anew(site: Site) -> None:
    modelfile = site.folder / "Modelfile2"
    modelfile.write_text(f"FROM {MODEL}\nPARAMETER num_ctx 512\n")
    made = site.cli("create", MODEL, "-f", str(modelfile))
    assert made.returncode == 0, made.stderr
    assert re.search(rf"num_ctx\s+{rig.CONTEXT}\b", site.cli("show", MODEL, "--parameters").stdout)


def test_only_an_administrator_changes_models(site: Site) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    new = urllib.request.Request(f"{site.url}/api/v1/keys", json.dumps({"name": "guest"}).encode(), headers)
    key = json.loads(rig.fetch(new)[1])["key"]
    assert MODEL in site.cli("list", key=key).stdout
    modelfile = site.folder / "Modelfile3"
    modelfile.write_text(f"FROM {MODEL}\n")
    for asked in (["rm", MODEL], ["cp", MODEL, "mine"], ["pull", MODEL], ["create", "mine", "-f", str(modelfile)]):
        refused = site.cli(*asked, key=key)
        assert refused.returncode == 1
        assert "that takes operator or admin" in refused.stderr


def test_a_context_that_is_set_later_holds_for_every_api(site: Site) -> None:
    assert site.cli("cp", MODEL, "free").returncode == 0
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    address = f"{site.url}/api/v1/models/free/config"
    rig.fetch(urllib.request.Request(address, b'{"context": 1024}', headers, method="PUT"))
    for path, told in (("/api/generate", {"prompt": "Hi", "options": {"num_predict": 1}}), ("/v1/completions", {})):
        asked = {"model": "free", "prompt": "Hi", "max_tokens": 1, "stream": False, **told}
        rig.fetch(urllib.request.Request(site.url + path, json.dumps(asked).encode(), headers), timeout=PATIENCE)
    loaded = [m for e in site.engines for m in rig.get(f"{e}/api/ps")["models"] if m["name"] == "free:latest"]
    assert loaded
    assert {m["context_length"] for m in loaded} == {1024}
    assert site.cli("rm", "free").returncode == 0
