"""The scheduler, its task manager and every worker are updated while tasks come in, wait and run: none is lost."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from cluster_ai.errors import ExitCode
from tests.lab.conftest import Cluster, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

MODEL = "smollm2:135m"


def test_an_update_of_the_scheduler_loses_no_task_and_repeats_none(
    cluster: Cluster, edited: Callable[[str, str], None]
) -> None:
    token = cluster.run("status", "--token", check=True).stdout.strip()
    url = f"http://{cluster.lab.address('h1')}:11435/api/v1/tasks"

    def ask(path: str = "", body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(url + path, json.dumps(body).encode() if body else None, headers)
        with urllib.request.urlopen(request, timeout=600) as reply:
            return json.loads(reply.read())

    def task(number: int) -> dict[str, Any]:
        options = {"num_predict": 8, "temperature": 0, "seed": number}
        payload = {"model": MODEL, "prompt": f"{number} and", "raw": True, "options": options}
        return {"kind": "ai_inference", "payload": payload, "idempotent": False, "tags": ["update"]}

    def state(task_id: str) -> str:
        found: str = ask(f"/{task_id}")["state"]
        return found

    ids: list[str] = ask("/bulk", {"tasks": [task(number) for number in range(12)]})["ids"]
    failed: list[str] = []
    over = threading.Event()

    def submit() -> None:
        number = 1000
        while not over.wait(1):
            number += 1
            try:
                ids.append(ask("", task(number))["id"])
            except OSError as e:
                failed.append(repr(e))

    edited("  workers:\n", "    dashboard_port: 8797\n  workers:\n")
    submitting = threading.Thread(target=submit)
    submitting.start()
    try:
        done = cluster.run("apply", "--yes")
    finally:
        over.set()
        submitting.join()
    assert done.returncode == ExitCode.OK, done.stderr
    assert "scheduler" in done.stdout
    assert not failed
    until(lambda: all(state(it) not in ("queued", "sent") for it in ids), within=900, what="all tasks have ended")
    ended = [ask(f"/{it}") for it in ids]
    assert [t["error"] for t in ended if t["state"] != "done"] == []
    assert {t["attempt"] for t in ended} == {1}
