"""What a model takes in memory: its weights, the cache of its context for each slot, and buffers. Pure.

The cache is llama.cpp's, which Ollama runs: for each token of context and each layer a key and a value of every
key-value head (https://github.com/ggml-org/llama.cpp, src/llama-kv-cache.cpp); Ollama makes it as large as the context
times the requests that run at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cluster_ai.sizes import counted

CacheType = Literal["f16", "q8_0", "q4_0"]
# Bytes of one number in the cache; the quantized ones have blocks of 32 with a scale of two bytes.
CACHE_BYTES: Mapping[str, float] = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
BUFFERS, BUFFERS_SHARE = 250_000_000, 0.05  # bytes of an engine's own, and as a share of the weights


@dataclass(frozen=True, slots=True)
class Runs:
    """How an engine runs a model. context: tokens of each slot; slots: requests at once."""

    context: int
    slots: int = 1
    cache: CacheType = "f16"


@dataclass(frozen=True, slots=True)
class Need:
    """Memory of one replica, in bytes. why: where the number comes from, for people. weights and cache are parts of
    memory, where they are known; the rest are buffers."""

    memory: int
    why: str
    weights: int | None = None
    cache: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model's form its cache depends on. per_token: numbers kept for one token of context."""

    per_token: int

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Shape | None:
        """From GGUF's keys, as a file or Ollama's /api/show has them; None where they don't say enough."""
        family = values.get("general.architecture")

        def number(key: str) -> int | None:
            value = values.get(f"{family}.{key}")
            return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

        layers, heads, width = number("block_count"), number("attention.head_count"), number("embedding_length")
        if layers is None or heads is None or width is None:
            return None
        kept = number("attention.head_count_kv") or heads
        key = number("attention.key_length") or width // heads
        value = number("attention.value_length") or width // heads
        return cls(layers * kept * (key + value))

    def cache(self, runs: Runs) -> int:
        """Bytes."""
        return int(self.per_token * CACHE_BYTES[runs.cache] * runs.context * runs.slots)


def of_weights(weights: int, shape: Shape, runs: Runs) -> Need:
    cache = shape.cache(runs)
    slots = counted(runs.slots, "slot")
    why = f"its weights, the {runs.cache} cache of {runs.context} tokens for {slots}, and buffers"
    return Need(weights + cache + BUFFERS + int(weights * BUFFERS_SHARE), why, weights, cache)
