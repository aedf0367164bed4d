"""What a GGUF file says about the model in it: for the embedded engine's answers, and for what it takes in memory."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LONGEST_STRING = 16 << 20
# llama.cpp's llama_ftype, as Ollama names them.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16",
}  # fmt: skip


class GGUFError(ValueError):
    """The file isn't GGUF, or is cut off."""


@dataclass(frozen=True, slots=True)
class Metadata:
    values: Mapping[str, Any]  # arrays are left out: vocabularies are large and nobody asks for them
    parameters: int

    @property
    def family(self) -> str:
        return str(self.values.get("general.architecture", "unknown"))

    @property
    def quantization(self) -> str:
        return quantization(self.values)

    @property
    def parameter_size(self) -> str:
        for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
            if self.parameters >= size:
                return f"{self.parameters / size:.2f}{unit}" if unit != "B" else f"{self.parameters / size:.1f}B"
        return str(self.parameters)

    @property
    def context_length(self) -> int | None:
        value = self.values.get(f"{self.family}.context_length")
        return value if isinstance(value, int) else None


def read(path: Path) -> Metadata:
    """Read the header only. Raises GGUFError, OSError."""
    with path.open("rb") as file:
        tensors, pairs = _counts(file, path)
        values: dict[str, Any] = {}
        for _ in range(pairs):
            key = _string(file)
            value = _value(file, _scalar(file, "<I"))
            if value is not None:
                values[key] = value
        return Metadata(values, sum(_tensor(file) for _ in range(tensors)))


def quantization(values: Mapping[str, Any]) -> str:
    """What most of the weights are, such as F16 or Q4_K_M; "unknown" where a header doesn't say."""
    return _FILE_TYPES.get(values.get("general.file_type", -1), "unknown")


def architecture(path: Path) -> dict[str, Any]:
    """What stands before the tokenizer, which is most of a header and slow to walk through: the model's form.

    Raises GGUFError, OSError.
    """
    with path.open("rb") as file:
        _, pairs = _counts(file, path)
        values: dict[str, Any] = {}
        for _ in range(pairs):
            key = _string(file)
            if key.startswith("tokenizer."):
                break
            value = _value(file, _scalar(file, "<I"))
            if value is not None:
                values[key] = value
        return values


def _counts(file: BinaryIO, path: Path) -> tuple[int, int]:
    """Of tensors, and of pairs of key and value."""
    if file.read(4) != b"GGUF":
        raise GGUFError(f"{path} is not a GGUF file")
    version = _scalar(file, "<I")
    if version not in (2, 3):
        raise GGUFError(f"{path} has GGUF version {version}; 2 and 3 are known")
    return _scalar(file, "<Q"), _scalar(file, "<Q")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind in _SCALARS:
        return _scalar(file, _SCALARS[kind])
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        raise GGUFError(f"unknown value type {kind}")
    item, count = _scalar(file, "<I"), _scalar(file, "<Q")
    if item in _SCALARS:
        _skip(file, struct.calcsize(_SCALARS[item]) * count)
    elif item == _STRING:
        for _ in range(count):
            _skip(file, _scalar(file, "<Q"))
    else:
        raise GGUFError(f"an array of type {item}")
    return None


def _tensor(file: BinaryIO) -> int:
    """Number of elements of one tensor's description."""
    _string(file)
    dimensions = _scalar(file, "<I")
    if dimensions > 8:
        raise GGUFError(f"a tensor of {dimensions} dimensions")
    count: int = math.prod(_scalar(file, "<Q") for _ in range(dimensions))
    _skip(file, 12)  # type and offset
    return count


def _scalar(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, _exactly(file, struct.calcsize(form)))[0]


def _string(file: BinaryIO) -> str:
    length = _scalar(file, "<Q")
    if length > _LONGEST_STRING:
        raise GGUFError(f"a string of {length} bytes")
    return _exactly(file, length).decode("utf-8", "replace")


def _skip(file: BinaryIO, count: int) -> None:
    if count:
        # Reading the last byte notices the end of the file, which seeking doesn't.
        try:
            file.seek(count - 1, 1)
        except (OSError, OverflowError, ValueError) as error:
            raise GGUFError("the file is cut off") from error
        _exactly(file, 1)


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise GGUFError("the file is cut off")
    return data
