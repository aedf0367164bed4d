from __future__ import annotations

from pathlib import Path

import pytest

from cluster_ai.config.model import Model, Resources, Worker
from cluster_ai.placement import Budget, budget, need

GB = 10**9


def model(name: str, memory: int | None = None, source: Path | None = None) -> Model:
    return Model(name, 1, memory, source, {})


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("llama2:13b", 9.45),
        ("llama3.2:3b", 2.95),
        ("qwen2.5:0.5b-instruct-q4_K_M", 1.325),
        ("mixtral:8x7b", 37.4),
        ("smollm2:135m", 1.08775),
        ("hf.co/org/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", 1.65),
        ("mistral", 4),
        ("phi:latest", 4),
        ("nomic-embed-text:v1.5", 4),
    ],
)
def test_where_nothing_is_said_the_name_is_looked_at(name: str, memory: float) -> None:
    assert need(model(name)).memory == pytest.approx(memory * GB)


def test_what_is_said_counts() -> None:
    assert need(model("llama2:13b", memory=5 * GB)).memory == 5 * GB


def test_a_file_is_weighed(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    with file.open("wb") as sparse:
        sparse.truncate(GB)
    found = need(model("llama2:13b", source=file))
    assert found.memory == 1.45 * GB
    assert "file of 1.00 GB" in found.why


@pytest.mark.parametrize(
    ("gpu", "gpu_memory", "expected"), [(0, None, 0), (1, None, 8 * GB), (2, None, 16 * GB), (2, 48 * GB, 48 * GB)]
)
def test_a_worker_gives_its_gpu_memory_and_four_fifths_of_its_ram(
    gpu: int, gpu_memory: int | None, expected: int
) -> None:
    worker = Worker("w", "w", Resources(8, 10 * GB, gpu, gpu_memory), {})
    assert budget(worker) == Budget(expected, 8 * GB)
