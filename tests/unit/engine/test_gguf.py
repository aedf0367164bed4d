from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster_ai.engine.gguf import GGUFError, read


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


WHOLE = (
    b"GGUF"
    + struct.pack("<IQQ", 3, 2, 4)
    + (text("general.architecture") + struct.pack("<I", 8) + text("llama"))
    + (text("general.file_type") + struct.pack("<II", 4, 3))
    + (text("llama.context_length") + struct.pack("<II", 4, 8192))
    + (text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"))
    + (text("one") + struct.pack("<IQQIQ", 2, 1000, 2000, 3, 0))
    + (text("two") + struct.pack("<IQIQ", 1, 500_000, 0, 0))
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf") / "model.gguf"


def test_a_header_tells_family_quantization_context_and_size(file: Path) -> None:
    file.write_bytes(WHOLE)
    found = read(file)
    assert (found.family, found.quantization, found.context_length) == ("llama", "Q4_1", 8192)
    assert (found.parameters, found.parameter_size) == (2_500_000, "2.50M")
    assert "tokenizer.ggml.tokens" not in found.values


@pytest.mark.parametrize(
    ("head", "error"), [(b"", "not a GGUF"), (b"PK\3\4", "not a GGUF"), (b"GGUF\1\0\0\0", "version 1")]
)
def test_another_kind_of_file_is_refused(file: Path, head: bytes, error: str) -> None:
    file.write_bytes(head)
    with pytest.raises(GGUFError, match=error):
        read(file)


def test_a_file_cut_off_anywhere_is_refused(file: Path) -> None:
    for end in range(4, len(WHOLE)):
        file.write_bytes(WHOLE[:end])
        with pytest.raises(GGUFError):
            read(file)


@given(st.integers(8, len(WHOLE) - 1), st.binary(min_size=1, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_or_refused_but_never_breaks_the_reader(file: Path, at: int, damage: bytes) -> None:
    file.write_bytes(WHOLE[:at] + damage + WHOLE[at + len(damage) :])
    try:
        found = read(file)
    except GGUFError:
        return
    assert found.parameters >= 0
    assert found.parameter_size
