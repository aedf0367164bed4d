"""A model file in F16 is quantized by the engine that takes it in; one that can't be is refused in so many words."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_ai.host import models
from cluster_ai.settings import HostSettings, PlacedModel
from tests.rig import cluster as rig
from tests.rig.gguf import write_f16

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(rig.ollama() is None, reason="only a real Ollama quantizes: `make ollama` builds it"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rig.ollama_engine(tmp_path_factory.mktemp("engine")) as (url, _):
        yield url


def make(engine: str, folder: Path, file: Path, quantize: str | None) -> list[str]:
    """What the host's agent says that it couldn't make."""
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    shutil.copy(file, folder / sha256)
    placed = (PlacedModel("small", "cpu", sha256, {}, quantize),)
    told = HostSettings("h", ("worker",), (), (), "", None, None, None, None, None, engine, placed)
    return models.make(told, record=folder / "models.json", blobs=folder)


@pytest.mark.parametrize(("quantize", "found"), [(None, "F16"), ("q8_0", "Q8_0"), ("q4_K_M", "Q4_K_M")])
def test_the_engine_makes_of_the_file_what_was_asked(
    engine: str, tmp_path: Path, quantize: str | None, found: str
) -> None:
    write_f16(tmp_path / "f16.gguf")
    assert make(engine, tmp_path, tmp_path / "f16.gguf", quantize) == []
    made = {it["name"]: it["details"]["quantization_level"] for it in rig.get(f"{engine}/api/tags")["models"]}
    assert made["small:latest"] == found


def test_what_the_engine_does_not_quantize_is_told_in_its_words(engine: str, tmp_path: Path) -> None:
    (failure,) = make(engine, tmp_path, rig.weights(), "q8_0")
    assert failure.startswith("model small: expected it in the engine, found: ")
    assert "only supported for F16 and F32" in failure
