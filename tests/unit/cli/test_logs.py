from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster_ai.cli.commands.logs import units
from cluster_ai.cli.main import main
from cluster_ai.config import load
from cluster_ai.config.model import Host, hosts
from cluster_ai.errors import ExitCode
from cluster_ai.local import state
from cluster_ai.local.model import Addresses, Paths, Plan

TEXT = """
version: '1.0'
cluster:
  name: c
  scheduler: {host: head.example}
  workers: [{name: w, host: w.example, resources: {cpu: 2, memory: 4GB}}]
  models: []
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def there(config: Path) -> tuple[Host, ...]:
    return hosts(load(config))


def test_a_component_is_its_units_also_those_of_which_several_instances_run(there: tuple[Host, ...]) -> None:
    head, worker = there
    assert {"cluster-ai-gateway@*.service", "cluster-ai-gateway.socket"} <= set(units(head, ["gateway"]))
    assert units(worker, ["engine", "front"]) == ["cluster-ai-engine.service", "cluster-ai-front.service"]


def test_without_a_name_it_is_all_that_the_host_has(there: tuple[Host, ...]) -> None:
    head, worker = there
    assert "cluster-ai-engine.service" not in units(head, [])
    assert {"cluster-ai-worker.service", "cluster-ai-switch.service"} <= set(units(worker, []))


def test_a_component_that_the_host_has_not_is_answered_with_those_that_it_has(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(config), "logs", "w", "gateway"]) == ExitCode.USAGE
    assert "there is no component 'gateway'" in (told := capfd.readouterr().err)
    assert "engine, front, worker" in told


@pytest.fixture
def up(tmp_path: Path) -> Path:
    """The cluster.yaml, which isn't there, of a cluster that `cluster-ai up` started: this process stands for it."""
    paths = Paths(tmp_path / ".cluster-ai")
    paths.logs.mkdir(parents=True)
    for part in ("gateway", "worker-1", "worker-2", "engine-1", "engine-2"):
        (paths.logs / f"{part}.log").write_text(f"{part} begins\n{part} goes on\n")
    (paths.logs / "gateway.log.old").write_text("of the start before\n")
    addresses = Addresses("http://127.0.0.1:1", None, None, None, "tls://127.0.0.1:2", "http://127.0.0.1:3")
    plan = Plan(str(paths.root), addresses, ("worker-1", "worker-2"), "embedded", (), {}, ())
    state.write(paths, state.of(plan, os.getpid(), "up"))
    return tmp_path / "cluster.yaml"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["localhost", "gateway"], ["gateway begins", "gateway goes on"]),
        (["worker-2", "engine", "-n", "1"], ["engine-2 goes on"]),
        (["worker-1", "-n", "1"], ["worker-1 goes on", "engine-1 goes on"]),
    ],
)
def test_of_the_cluster_on_this_machine_files_are_shown(
    up: Path, words: list[str], said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(up), "logs", *words]) == ExitCode.OK
    told = [line for line in capfd.readouterr().out.splitlines() if line and not line.startswith("==>")]
    assert told == said


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["worker-1", "gateway"], ExitCode.USAGE, "worker, engine"),
        (["gpu-1"], ExitCode.CONFIG, "localhost, worker-1, worker-2"),
        (["localhost", "--since", "today"], ExitCode.USAGE, "--lines"),
    ],
)
def test_what_the_cluster_on_this_machine_does_not_have_is_told_with_what_it_has(
    up: Path, words: list[str], code: ExitCode, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(up), "logs", *words]) == code
    assert said in capfd.readouterr().err


def test_log_files_that_are_gone_are_told(up: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in up.parent.rglob("*-1.log"):
        path.unlink()
    assert main(["--config", str(up), "logs", "worker-1"]) == ExitCode.UNAVAILABLE
    assert "worker-1: its log files are gone" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["cordon", "drain", "undrain"])
def test_workers_of_the_cluster_on_this_machine_are_meant_while_it_is_up(
    up: Path, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    up.write_text(TEXT)
    assert main(["--config", str(up), command, "w"]) == ExitCode.CONFIG
    assert "it has: worker-1, worker-2; for a host of cluster.yaml end it first" in capfd.readouterr().err
    assert main(["--config", str(up), command, "worker-1"]) == ExitCode.UNAVAILABLE
    assert "127.0.0.1:1: the gateway doesn't answer" in capfd.readouterr().err
