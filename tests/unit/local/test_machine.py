from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster_ai.errors import UsageError
from cluster_ai.local import machine

MEMINFO = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\nHugePages_Total:       0\n"


def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text(MEMINFO)
    return path


def test_memory_is_what_the_kernel_calls_available(tmp_path: Path) -> None:
    assert machine.memory(meminfo(tmp_path), tmp_path) == (8000 * 1024, 16000 * 1024)


def test_a_containers_limit_counts_where_it_is_less(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{4000 * 1024}\n")
    (tmp_path / "memory.current").write_text(f"{1000 * 1024}\n")
    assert machine.memory(meminfo(tmp_path), tmp_path) == (3000 * 1024, 4000 * 1024)


def test_no_limit_is_no_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1\n")
    assert machine.memory(meminfo(tmp_path), tmp_path)[1] == 16000 * 1024


def test_programs_are_found_on_the_path_that_is_given(tmp_path: Path) -> None:
    program = tmp_path / "prometheus"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert machine.look({"PATH": str(tmp_path)}).prometheus == program
    assert machine.look({"PATH": str(tmp_path / "none")}).prometheus is None


def test_an_ollama_that_is_named_is_preferred_to_one_on_the_path(tmp_path: Path) -> None:
    for name in ("ollama", "mine"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    named = {"PATH": str(tmp_path), "CLUSTER_AI_OLLAMA": str(tmp_path / "mine")}
    assert machine.look(named).ollama == tmp_path / "mine"
    assert machine.look({"PATH": str(tmp_path)}).ollama == tmp_path / "ollama"


def test_an_ollama_that_is_named_and_is_none_is_told_and_not_passed_over(tmp_path: Path) -> None:
    for name in (tmp_path, tmp_path / "olama"):
        with pytest.raises(UsageError, match=f"CLUSTER_AI_OLLAMA: {name} is no program"):
            machine.ollama({"PATH": "", "CLUSTER_AI_OLLAMA": str(name)})


def test_the_wheels_model_is_found_without_importing_it() -> None:
    found = machine.look(os.environ)
    assert found.model is not None
    assert found.model.read_bytes()[:4] == b"GGUF"
    assert found.llama
