from __future__ import annotations

from pathlib import Path

import pytest

from cluster_ai.cli.commands.logs import units
from cluster_ai.cli.main import main
from cluster_ai.config import load
from cluster_ai.config.model import Host, hosts
from cluster_ai.errors import ExitCode

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
