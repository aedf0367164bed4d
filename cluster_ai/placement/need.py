"""How much memory a model needs where nobody says, and how much a worker gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster_ai.config.model import Engine, Model, Resources
from cluster_ai.engine import gguf
from cluster_ai.placement.memory import Need, Runs, Shape, of_weights
from cluster_ai.placement.room import Budget

GB = 10**9
RAM_SHARE = (
    0.8  # of a worker's memory, for models that run on its CPU; the rest is for the system, Dask and the engine itself
)
MEMORY_OF_A_CARD = 8 * GB  # where a worker has GPUs and doesn't say how much memory
FILE_FACTOR, FILE_EXTRA = (
    1.2,
    GB // 4,
)  # of a GGUF file that doesn't tell its form: buffers grow with the weights; and the cache of a 4096 token context
PER_BILLION, TAG_EXTRA = 0.65 * GB, GB  # of a tag such as 13b: weights of 4 to 5 bits; cache and buffers
UNKNOWN = 4 * GB
BYTES = {"F16": 2.0, "F32": 4.0}  # of a weight, in files that Ollama quantizes
QUANTIZED = {"q8_0": 8.5 / 8, "q4_K_M": 4.9 / 8}  # bytes of a weight afterwards, as llama.cpp measures its own

_PARAMETERS = re.compile(r"(?:^|[-_:/])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z0-9.])", re.IGNORECASE)


def need(model: Model, engine: Engine) -> Need:
    """What the configuration says, else an estimate: from the GGUF file, from the tag, or a flat one."""
    if model.memory is not None:
        return Need(model.memory, "as its resources say")
    if model.source is not None:
        values = _architecture(model.source)
        size, shape = _weights(model, values), Shape.of(values)
        if shape is not None:
            return of_weights(size, shape, runs(model, engine))
        return Need(int(size * FILE_FACTOR) + FILE_EXTRA, f"estimated from its file of {size / GB:.2f} GB")
    name, _, tag = model.name.rpartition(":")
    for text in (tag, name):
        if match := _PARAMETERS.search(text):
            experts, count, unit = match.groups()
            billions = float(count) * int(experts or 1) / (1000 if unit in "mM" else 1)
            return Need(
                int(billions * PER_BILLION) + TAG_EXTRA, f"estimated from {match.group(0).strip('-_:/')!r} in its name"
            )
    return Need(UNKNOWN, "a guess, for neither its resources nor its name say")


def not_quantizable(model: Model) -> str:
    """Why the engine would refuse to quantize its file, as far as the file tells; empty: it wouldn't."""
    if model.quantize is None or model.source is None:
        return ""
    found = gguf.quantization(_architecture(model.source))
    if found in (*BYTES, "unknown"):
        return ""
    return f"is {found} already, and the engine quantizes only {', '.join(BYTES)}"


def _weights(model: Model, values: Mapping[str, Any]) -> int:
    """Bytes of the file, or of what the engine makes of it."""
    assert model.source is not None
    size = model.source.stat().st_size
    if model.quantize is None:
        return size
    return int(size * QUANTIZED[model.quantize] / BYTES.get(gguf.quantization(values), 2.0))


def _architecture(path: Path) -> Mapping[str, Any]:
    """Empty where the file isn't what it should be: the engine will say so."""
    try:
        return gguf.architecture(path)
    except gguf.GGUFError:
        return {}


def runs(model: Model, engine: Engine) -> Runs:
    context = int(model.options.get("num_ctx", engine.context_length))
    return Runs(context, engine.parallel, engine.kv_cache_type)


def budget(resources: Resources) -> Budget:
    gpu = resources.gpu_memory if resources.gpu_memory is not None else resources.gpu * MEMORY_OF_A_CARD
    return Budget(gpu if resources.gpu else 0, int(resources.memory * RAM_SHARE))
