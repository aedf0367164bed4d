"""The smallest GGUF file that an engine takes in: a llama of one layer with made-up weights, in F16."""

from __future__ import annotations

import math
import struct
from pathlib import Path

WIDTH = VOCABULARY = 256  # quantized weights come in blocks of 256
_F32, _F16 = 0, 1
_UINT32, _FLOAT32, _STRING = 4, 6, 8


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def _pair(key: str, value: str | int | float) -> bytes:
    if isinstance(value, str):
        return _text(key) + struct.pack("<I", _STRING) + _text(value)
    kind, form = (_UINT32, "<II") if isinstance(value, int) else (_FLOAT32, "<If")
    return _text(key) + struct.pack(form, kind, value)


def _list(key: str, kind: int, items: list[bytes]) -> bytes:
    return _text(key) + struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items)


def write_f16(path: Path) -> None:
    """Half a million weights."""
    pairs = [
        _pair("general.architecture", "llama"),
        _pair("general.file_type", 1),
        _pair("llama.block_count", 1),
        _pair("llama.context_length", 512),
        _pair("llama.embedding_length", WIDTH),
        _pair("llama.feed_forward_length", WIDTH),
        _pair("llama.attention.head_count", 4),
        _pair("llama.attention.head_count_kv", 4),
        _pair("llama.attention.layer_norm_rms_epsilon", 1e-5),
        _pair("llama.vocab_size", VOCABULARY),
        _pair("tokenizer.ggml.model", "llama"),
        _list("tokenizer.ggml.tokens", _STRING, [_text(chr(33 + i)) for i in range(VOCABULARY)]),
        _list("tokenizer.ggml.scores", _FLOAT32, [struct.pack("<f", 0.0)] * VOCABULARY),
        _list("tokenizer.ggml.token_type", 5, [struct.pack("<i", 1)] * VOCABULARY),
    ]
    square = (WIDTH, WIDTH)
    layer = [f"blk.0.{name}.weight" for name in ("attn_q", "attn_k", "attn_v", "attn_output")]
    layer += [f"blk.0.{name}.weight" for name in ("ffn_gate", "ffn_up", "ffn_down")]
    tensors = [(name, square, _F16) for name in ("token_embd.weight", "output.weight", *layer)]
    norms = ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight")
    tensors += [(name, (WIDTH,), _F32) for name in norms]  # type: ignore[misc]
    told, data = b"", b""
    for name, shape, kind in tensors:
        told += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data))
        count = math.prod(shape)
        data += struct.pack(f"<{count}{'e' if kind == _F16 else 'f'}", *(math.sin(i) for i in range(count)))
        data += bytes(-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs) + told
    path.write_bytes(head + bytes(-len(head) % 32) + data)
