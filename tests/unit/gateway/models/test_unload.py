"""Which requests are no question, but take a model out of memory."""

from __future__ import annotations

from typing import Any

import pytest

from cluster_ai.gateway.calls import Call
from cluster_ai.gateway.models.unload import unloads


def asked(path: str, **value: Any) -> Call:
    return Call(path, "m:latest", "m", b"", whole=False, value={"model": "m", **value})


@pytest.mark.parametrize("kept", [0, 0.0, "0", "0s", "0m"])
def test_nothing_to_answer_and_to_be_kept_for_no_time(kept: object) -> None:
    assert unloads(asked("/api/generate", keep_alive=kept))
    assert unloads(asked("/api/generate", keep_alive=kept, prompt=""))
    assert unloads(asked("/api/chat", keep_alive=kept, messages=[]))


@pytest.mark.parametrize(
    "call",
    [
        asked("/api/generate"),  # loads it
        asked("/api/generate", keep_alive=False),
        asked("/api/generate", keep_alive=None),
        asked("/api/generate", keep_alive=[0]),
        asked("/api/generate", keep_alive="5m"),
        asked("/api/generate", keep_alive=-1),
        asked("/api/generate", keep_alive=0, prompt="Hello"),  # answers, then unloads
        asked("/api/chat", keep_alive=0, messages=[{"role": "user", "content": "Hello"}]),
        asked("/api/embed", keep_alive=0),
        asked("/v1/completions", keep_alive=0),
    ],
)
def test_anything_else_is_a_question(call: Call) -> None:
    assert not unloads(call)
