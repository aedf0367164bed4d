from __future__ import annotations

from pathlib import Path

import pytest

from cluster_ai.config.model import Engine, Model, Resources, Worker
from cluster_ai.placement.memory import Runs, Shape
from cluster_ai.placement.need import budget, need
from cluster_ai.placement.room import Budget
from tests.rig.cluster import weights
from tests.rig.gguf import write_f16

GB = 10**9
ENGINE = Engine("0.17.4", None, None, 2, 4096, 60.0, "f16")


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
    assert need(model(name), ENGINE).memory == pytest.approx(memory * GB)


def test_what_is_said_counts() -> None:
    assert need(model("llama2:13b", memory=5 * GB), ENGINE).memory == 5 * GB


def test_a_file_is_weighed(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    with file.open("wb") as sparse:
        sparse.truncate(GB)
    found = need(model("llama2:13b", source=file), ENGINE)
    assert found.memory == 1.45 * GB
    assert "file of 1.00 GB" in found.why


@pytest.mark.parametrize(
    ("gpu", "gpu_memory", "expected"), [(0, None, 0), (1, None, 8 * GB), (2, None, 16 * GB), (2, 48 * GB, 48 * GB)]
)
def test_a_worker_gives_its_gpu_memory_and_four_fifths_of_its_ram(
    gpu: int, gpu_memory: int | None, expected: int
) -> None:
    worker = Worker("w", "w", Resources(8, 10 * GB, gpu, gpu_memory), {})
    assert budget(worker.resources) == Budget(expected, 8 * GB)


def test_a_model_file_that_tells_its_form_is_weighed_with_the_cache_of_every_slot() -> None:
    found = need(Model("smollm2", 1, None, weights(), {"num_ctx": 2048}), ENGINE)
    assert found.weights == weights().stat().st_size
    # 30 layers, 3 key-value heads of 64 numbers, keys and values, 2 bytes each, for 2048 tokens of 2 slots
    assert found.cache == 30 * 3 * 64 * 2 * 2 * 2048 * 2
    assert found.weights + found.cache < found.memory < found.weights + found.cache + GB
    assert found.why == "its weights, the f16 cache of 2048 tokens for 2 slots, and buffers"


def test_a_quantized_cache_takes_about_half() -> None:
    shape = Shape(1000)
    whole, half = (shape.cache(Runs(4096, 1, kind)) for kind in ("f16", "q8_0"))
    assert half == pytest.approx(whole * 0.53, rel=0.01)


@pytest.mark.parametrize("values", [{}, {"general.architecture": "llama"}, {"llama.block_count": 3}])
def test_what_does_not_say_its_form_has_none(values: dict[str, object]) -> None:
    assert Shape.of(values) is None


def test_a_file_that_the_engine_quantizes_is_weighed_as_it_will_be(tmp_path: Path) -> None:
    write_f16(tmp_path / "f16.gguf")
    as_it_is, half = (
        need(Model("m", 1, None, tmp_path / "f16.gguf", {}, quantize), ENGINE).weights for quantize in (None, "q8_0")
    )
    assert as_it_is
    assert half == pytest.approx(as_it_is * 0.53, rel=0.01)
