from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.cli.commands.drain import wait
from cluster_ai.cli.draining import words
from cluster_ai.cli.main import main
from cluster_ai.errors import ExitCode, UnavailableError
from cluster_ai.rollout import credentials
from cluster_ai.rollout.scope import Scope
from cluster_ai.rollout.traffic import Seen

CONFIG = """\
version: '1.0'
cluster:
  name: 'test'
  scheduler: {host: '10.0.0.1'}
  workers:
    - {name: 'gpu-1', host: '10.0.0.2', resources: {cpu: 8, memory: '32GB'}}
    - {name: 'gpu-2', host: '10.0.0.3', resources: {cpu: 8, memory: '32GB'}}
"""
EMPTY = {"tasks": 0, "results": 0, "untold": None}


class Gateway:
    def __init__(self) -> None:
        self.left: dict[str, int] = {"gpu-1": 0, "gpu-2": 0}
        self.cordons: dict[str, dict[str, Any]] = {}
        self.posted: list[str] = []
        self.away = False

    def entry(self, name: str) -> dict[str, Any]:
        cordon = self.cordons.get(name)
        reason = f"drained: {cordon['reason']}, since 2026-11-24T10:00:00Z" if cordon else None
        state = "draining" if cordon else "active"
        return {"name": name, "state": state, "reason": reason, "in_flight": self.left[name], "cordon": cordon}

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout: float = 10
    ) -> tuple[int, Any]:
        if self.away:
            raise UnavailableError("the gateway doesn't answer", where="head")
        if method == "GET":
            return 200, {"workers": [self.entry(name) for name in self.left]}
        name, what = path.split("/")[-2:]
        self.posted.append(f"{what} {name}")
        if what == "resume":
            self.cordons.pop(name, None)
        else:
            assert body
            self.cordons[name] = {"reason": body["reason"], "drained": what == "drain", **EMPTY}
        return 200, self.entry(name)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    made = Gateway()
    monkeypatch.setattr(Scope, "gateway", lambda self, token: made)
    monkeypatch.setattr(credentials, "token", lambda config: "secret")
    return made


@pytest.fixture
def run(tmp_path: Path, gateway: Gateway) -> Callable[..., int]:
    (tmp_path / "cluster.yaml").write_text(CONFIG)
    return lambda *words: main(["--config", str(tmp_path / "cluster.yaml"), *words])


def test_a_drained_worker_is_said_to_be_empty(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("drain", "gpu-1", "--reason", "new fans") == ExitCode.OK
    assert capsys.readouterr().out == "gpu-1: empty; drained: new fans, since 2026-11-24T10:00:00Z\n"


def test_what_is_left_when_the_time_is_over_is_an_error_with_a_remedy(
    run: Callable[..., int], gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.left["gpu-2"] = 2
    assert run("drain", "gpu-1", "gpu-2", "--timeout", "0s") == ExitCode.ROLLOUT
    said = capsys.readouterr()
    assert "gpu-2: 2 requests left" in said.out
    assert said.err.startswith("gpu-2: still has 2 requests after 0s")
    assert "cluster-ai undrain gpu-2" in said.err
    assert set(gateway.cordons) == {"gpu-1", "gpu-2"}


def test_who_gives_no_reason_is_named(
    run: Callable[..., int], gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert run("cordon", "gpu-1") == ExitCode.OK
    assert gateway.cordons["gpu-1"]["reason"] == "by ada"


def test_undrain_ends_it(run: Callable[..., int], gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    run("cordon", "gpu-1", "gpu-2")
    assert run("undrain", "gpu-1", "gpu-2") == ExitCode.OK
    assert capsys.readouterr().out.endswith("gpu-1: active\ngpu-2: active\n")
    assert not gateway.cordons


@pytest.mark.parametrize("command", ["cordon", "drain", "undrain"])
@pytest.mark.parametrize(("name", "hint"), [("gpu-3", "did you mean"), ("10.0.0.1", "is no worker")])
def test_a_wrong_name_is_found_before_anything_is_done(
    command: str, name: str, hint: str, run: Callable[..., int], gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, "gpu-1", name) == ExitCode.CONFIG
    assert hint in capsys.readouterr().err
    assert not gateway.posted


def test_without_a_gateway_nothing_can_be_drained(run: Callable[..., int], gateway: Gateway) -> None:
    gateway.away = True
    assert run("drain", "gpu-1") == ExitCode.UNAVAILABLE


def test_a_worker_that_the_gateway_does_not_know_is_told_of(run: Callable[..., int], gateway: Gateway) -> None:
    del gateway.left["gpu-2"]
    assert run("drain", "gpu-1", "gpu-2") == ExitCode.UNAVAILABLE
    assert not gateway.posted


@pytest.mark.parametrize("limit", ["soon", "120"])
def test_a_limit_has_its_unit(limit: str, run: Callable[..., int], gateway: Gateway) -> None:
    assert run("drain", "gpu-1", "--timeout", limit) == ExitCode.USAGE
    assert not gateway.posted


def test_json_has_all_that_is_left(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("drain", "gpu-1", "--reason", "x", "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {
        "format": 1,
        "workers": [
            {
                "worker": "gpu-1",
                "state": "draining",
                "reason": "drained: x, since 2026-11-24T10:00:00Z",
                "requests": 0,
                "tasks": 0,
                "results": 0,
                "untold": None,
            }
        ],
    }


def test_each_change_is_shown_once_and_a_gateway_that_restarts_is_asked_again() -> None:
    answers: list[int | Exception] = [2, UnavailableError("no"), 2, 1, 0]
    shown: list[str] = []

    def look() -> dict[str, Seen]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"w": Seen("draining", "", answer)}

    ended = wait(
        {"w": Seen("draining", "", 2)}, look, 60, lambda name, it: shown.append(words(it)), sleep=lambda _: None
    )
    assert ended["w"].left == 0
    assert shown == ["2 requests", "1 request", "nothing"]


def test_what_is_left_is_put_into_words() -> None:
    assert words(Seen("", "", 2, tasks=1, results=3)) == "2 requests, 1 Dask task and 3 Dask results"
    assert words(Seen("", "", 1, tasks=None, results=None)) == "1 request and what Dask has there"
