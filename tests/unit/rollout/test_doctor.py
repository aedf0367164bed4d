from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster_ai import layout
from cluster_ai.config import Config, hosts, load_text
from cluster_ai.release.ports import ports
from cluster_ai.rollout import observe
from cluster_ai.rollout.doctor import SCRIPT, Finding, Machine, findings, parse
from cluster_ai.rollout.observe import UnitState
from tests.unit.rollout.test_plan import NOW, seen

TEXT = """
version: '1.0'
cluster:
  name: c
  scheduler: {host: head.example}
  workers:
    - {name: w, host: 10.0.0.2, resources: {cpu: 8, gpu: 1, memory: 32GB}}
"""
GOOD = Machine(cores=8, memory=32 * 10**9, cards=1, driver=1, synchronized=True, listeners={22: "sshd"})


@pytest.fixture(scope="module")
def config() -> Config:
    return load_text(TEXT, Path("cluster.yaml"))


def bad(config: Config, machine: Machine = GOOD, **observed: Any) -> list[Finding]:
    host = next(host for host in hosts(config) if host.worker)
    return [it for it in findings(config, host, seen(**observed), machine, NOW) if it.level != "ok"]


def test_a_host_that_is_well_has_nothing_but_good_findings(config: Config) -> None:
    assert bad(config) == []


@pytest.mark.parametrize(
    ("machine", "observed", "words"),
    [
        (replace(GOOD, cores=4), {}, "4 cores"),
        (replace(GOOD, memory=16 * 10**9), {}, "16.0 GB of memory"),
        (replace(GOOD, cards=0, driver=0), {}, "0 NVIDIA cards"),
        (replace(GOOD, driver=0), {}, "driver shows 0 of 1"),
        (replace(GOOD, cards=2, driver=2), {}, "2 NVIDIA cards"),
        (replace(GOOD, unified=1), {}, "share its 32.0 GB of memory; cluster.yaml gives out 40.0"),
        (replace(GOOD, synchronized=False), {}, "not synchronized"),
        (replace(GOOD, listeners={layout.ENGINE_PORT: "ollama"}), {"units": {}, "current": None}, "11434 by ollama"),
        (GOOD, {"free": 10**9}, "1.0 GB are free"),
        (GOOD, {"free": None}, "not known"),
        (GOOD, {"clock": int(NOW) + 60}, "differs from ours by 60 s"),
        (GOOD, {"clock": int(NOW) - 600}, "differs from ours by 600 s"),
        (GOOD, {"os_id": "fedora", "os_version": "42"}, "fedora-42"),
        (GOOD, {"python": None}, "no python3"),
        (GOOD, {"python": "3.9"}, "Python 3.9"),
        (GOOD, {"units": {layout.ENGINE: UnitState("failed", "failed")}}, "is failed"),
        (GOOD, {"certificate": b"junk"}, "can't be read"),
    ],
)
def test_what_is_wrong_is_found_with_a_remedy(
    config: Config, machine: Machine, observed: dict[str, Any], words: str
) -> None:
    (finding,) = bad(config, machine, **observed)
    assert words in finding.what
    assert finding.remedy


def test_a_port_that_our_own_unit_has_is_no_fault(config: Config) -> None:
    machine = replace(GOOD, listeners={layout.ENGINE_PORT: "ollama"})
    assert bad(config, machine, units={layout.ENGINE: UnitState("active", "running")}) == []


def test_a_head_needs_the_ports_of_the_head(config: Config) -> None:
    head, worker = hosts(config)
    assert {config.gateway.port, config.scheduler.port, config.monitoring.port} <= ports(config, head).keys()
    assert ports(config, worker).keys() == {layout.ENGINE_PORT, layout.FRONT_PORT, layout.DASK_WORKER_PORTS[0]}


def test_an_answer_is_read_also_where_half_of_it_is_missing() -> None:
    text = """cores=2
memory=1000
cards=1
driver=0
synchronized=no
listen=LISTEN 0 4096 127.0.0.1:11434 0.0.0.0:* users:(("ollama",pid=7,fd=3))
listen=LISTEN 0 128 [::]:22 [::]:*
listen=LISTEN
"""
    assert parse(text) == Machine(2, 1024000, 1, 0, False, {11434: "ollama", 22: "an unknown program"})
    assert parse("") == Machine(0, 0, 0, 0, None, {})


@pytest.mark.parametrize(
    ("says", "own", "unified"),
    [("24576\n24576\n", 2 * 24 * 2**30, 0), ("[N/A]\n", 0, 1), ("[Not Supported]\n", 0, 1), ("[GPU is lost]\n", 0, 0)],
)
def test_memory_of_cards_is_what_the_driver_says_or_the_host_s(
    tmp_path: Path, says: str, own: int, unified: int
) -> None:
    cards = says.count("\n")
    program = tmp_path / "nvidia-smi"
    listed = "".join(f"GPU {n}: NVIDIA\n" for n in range(cards))
    program.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] && printf '{listed}' || printf '{says}'\n")
    program.chmod(0o755)
    script = SCRIPT.removeprefix(observe.SCRIPT)
    path = f"{tmp_path}:{os.environ['PATH']}"
    said = subprocess.run(["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=True).stdout
    machine = parse(said)
    assert (machine.driver, machine.card_memory, machine.unified) == (cards, own, unified)
    assert machine.cards >= cards
