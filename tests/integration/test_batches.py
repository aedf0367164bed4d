"""Batches by OpenAI's API: its own package, a power cut in the midst, and users who don't see each other's."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.client import Client
from cluster_ai.client.types import ResultFile
from cluster_ai.errors import ExitCode
from tests.rig import cluster as rig
from tests.rig.batches import CHAT, Served, chat
from tests.rig.processes import PATIENCE, REPOSITORY, running, until
from tests.rig.tasks import site

PYTHON = os.environ.get("CLUSTER_AI_CLIENTS", "")

pytestmark = pytest.mark.integration


@pytest.fixture
def served(tmp_path: Path, engine: str) -> Iterator[Served]:
    with site(tmp_path, engine) as found:
        yield Served(found)


@pytest.mark.skipif(not PYTHON, reason="CLUSTER_AI_CLIENTS names no Python that has requirements/clients.lock")
def test_the_openai_package_runs_batches_as_its_guide_says(served: Served, tmp_path: Path) -> None:
    script = str(REPOSITORY / "tests" / "clients" / "use_openai_batches.py")
    with served.parts():
        command = [PYTHON, script, f"{served.url}/k/{rig.TOKEN}", rig.MODEL]
        done = subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "status": ["completed", "completed", "completed", "failed"],
        "counts": [3, 2, 1],
        "answers": ["b", "a"],
        "said": [True, True],
        "errors": [["bad", "request_failed"]],
        "completion": True,
        "embedding": True,
        "refused": [["mismatched_url", 2]],
        "cancelled": ["cancelling", "cancelled"],
        "listed": True,
        "metadata": {"why": "a test"},
        "file": ["requests.jsonl", "batch"],
        "deleted": True,
        "files": True,
    }


def test_a_batch_outlives_the_end_of_everything_and_each_line_is_answered_once(served: Served) -> None:
    with ExitStack() as stack:
        parts = stack.enter_context(served.parts())
        asked = {"endpoint": CHAT, "completion_window": "24h"}
        asked["input_file_id"] = served.upload(*(chat(f"line {n}") for n in range(16)))
        batch = served.ask("/v1/batches", asked, **{"Idempotency-Key": "k"})["id"]
        until(lambda: served.ask(f"/v1/batches/{batch}")["request_counts"]["completed"] >= 3)
        for part in parts:
            part.stop(kill=True)
        stack.enter_context(served.parts())
        assert served.ask("/v1/batches", asked, **{"Idempotency-Key": "k"})["id"] == batch
        until(lambda: served.ask(f"/v1/batches/{batch}")["status"] == "completed")
        told = served.ask(f"/v1/batches/{batch}")
        assert told["request_counts"] == {"total": 16, "completed": 16, "failed": 0}
        answers = served.lines(told["output_file_id"])
        assert [it["custom_id"] for it in answers] == [f"line {n}" for n in range(16)]
        assert served.ask("/api/v1/tasks")["tasks"] == []
        until(lambda: served.ask("/api/v1/usage")["total"]["completion_tokens"], what="the account has them")
        until(lambda: served.ask("/api/v1/usage")["total"]["requests"] == 16)


def test_a_gateway_that_is_killed_loses_no_task_and_doubles_none(served: Served) -> None:
    task = {"kind": "ai_inference", "payload": {"model": rig.MODEL, "prompt": "Hi"}}
    killed = threading.Event()

    def submitted(number: int) -> str | None:
        """None: nobody said that it was taken. The last ones come when nobody is there."""
        if number >= 40:
            killed.wait(PATIENCE)
        try:
            return str(served.ask("/api/v1/tasks", task, **{"Idempotency-Key": f"k{number}"})["id"])
        except (OSError, HTTPException):
            return None

    numbers = range(60)
    with served.site.manager("w1"):
        with served.gateway() as gateway, ThreadPoolExecutor(4) as pool:
            first = []
            for it in pool.map(submitted, numbers):
                first.append(it)
                if len(first) == 20:
                    gateway.stop(kill=True)
                    killed.set()
        assert None in first[20:]
        with served.gateway():
            second = [submitted(number) for number in numbers]
            assert [then for then, now in zip(first, second, strict=True) if then not in (None, now)] == []
            assert {it["id"] for it in served.ask("/api/v1/tasks?limit=1000")["tasks"]} == set(second)


def test_who_may_use_some_models_makes_batches_of_those_alone(served: Served) -> None:
    with served.site.manager("w1"), served.gateway():
        tokens = {
            model: served.ask("/api/v1/keys", {"name": name, "models": [model]})["key"]
            for name, model in (("ada", rig.MODEL), ("bob", "other"))
        }
        batches = {}
        for model, token in tokens.items():
            file = served.upload(chat("a"), token=token)
            asked = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file}
            batches[model] = served.ask("/v1/batches", asked, token=token)["id"]
        until(lambda: served.ask(f"/v1/batches/{batches[rig.MODEL]}")["status"] == "in_progress")
        until(lambda: served.ask(f"/v1/batches/{batches['other']}")["status"] == "failed")
        (wrong,) = served.ask(f"/v1/batches/{batches['other']}")["errors"]["data"]
        assert (wrong["code"], wrong["line"]) == ("model_not_allowed", 1)


def example_of_tasks(url: str, token: str) -> None:
    """That of docs/python-client.md; tests/integration/test_native.py runs the others."""
    text = (Path(__file__).parents[2] / "docs" / "python-client.md").read_text()
    (code,) = [it for it in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "submit_task" in it]
    code = code.replace("https://head:11435", url).replace("smollm2", rig.MODEL)
    space: dict[str, Any] = {"token": token}
    exec(compile(code, "docs/python-client.md", "exec"), space)
    assert space["task"].state == "done"
    assert space["found"].result


def test_users_see_their_own_files_and_batches_alone(served: Served, tmp_path: Path) -> None:
    with served.site.manager("w1"), served.gateway():
        ada, bob = (served.ask("/api/v1/keys", {"name": name})["key"] for name in ("ada", "bob"))
        file = served.upload(chat("a"), token=ada)
        asked = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file}
        batch = served.ask("/v1/batches", asked, token=ada)["id"]
        assert [it["id"] for it in served.ask("/v1/files", token=ada)["data"]] == [file]
        assert served.ask("/v1/files", token=bob)["data"] == served.ask("/v1/batches", token=bob)["data"] == []
        for path, body in (
            (f"/v1/files/{file}", None),
            (f"/v1/files/{file}/content", None),
            (f"/v1/batches/{batch}", None),
            (f"/v1/batches/{batch}/cancel", {}),
            ("/v1/batches", asked),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                served.ask(path, body, token=bob)
            assert refused.value.code == 404
        assert served.ask(f"/v1/batches/{batch}")["id"] == batch  # an administrator's
        with Client(served.url, ada) as client:
            many = [{"kind": "ai_inference", "payload": {"model": rig.MODEL, "prompt": text}} for text in "xy"]
            ids = client.submit_tasks(many)
            assert {task.id for task in client.tasks()} == set(ids)
            path = f"{served.url}/v1/files/{file}/content"
            _, content = rig.fetch(urllib.request.Request(path, headers={"Authorization": f"Bearer {ada}"}))
            kept = ResultFile(file, "in.jsonl", len(content), hashlib.sha256(content).hexdigest(), 0)
            (tmp_path / f".out.{kept.sha256[:12]}.part").write_bytes(content[:10])  # as a break leaves it
            client.download(kept, tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == content


def test_a_run_that_is_killed_goes_on_and_answers_each_prompt_once(served: Served, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    rows = [json.dumps({"id": f"p{n}", "prompt": "Count."}) for n in range(20)]
    prompts.write_text("\n".join([*rows, '{"id": "bad", "nothing": 1}']) + "\n")
    command = [sys.executable, "-m", "cluster_ai", "batch", "run", str(prompts)]
    command += ["--out", str(out), "--model", rig.MODEL, "--max-tokens", "3", "--gateway", served.url]
    environment = {**os.environ, "CLUSTER_AI_TOKEN": rig.TOKEN}
    with served.parts():
        with running(command, tmp_path / "run.log", environment=environment) as process:
            until(lambda: served.ask("/v1/batches")["data"][0]["request_counts"]["completed"] >= 1)
            process.stop(kill=True)
        assert not out.exists()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert len(served.ask("/v1/batches")["data"]) == 1
        assert served.ask("/v1/files")["data"] == []
        example_of_tasks(served.url, rig.TOKEN)
    assert done.returncode == ExitCode.ROLLOUT, done.stderr
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [it["id"] for it in answers] == [f"p{n}" for n in range(20)]
    assert all(it["answer"] for it in answers)
    (error,) = map(json.loads, (tmp_path / "answers.errors.jsonl").read_text().splitlines())
    assert (error["id"], error["row"]) == ("bad", 21)
