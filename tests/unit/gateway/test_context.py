"""Prompts of other APIs, as Ollama's own, and whether they may be too long."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.context import as_own, size, too_long

TEXT = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}}


def test_openais_conversation_is_ollamas() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    messages = [
        {"role": "system", "content": "brief"},
        {"role": "user", "content": TEXT},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    tools = [{"type": "function", "function": {"name": "f"}}]
    path, own = as_own("/v1/chat/completions", {"model": "m", "messages": messages, "tools": tools}) or ("", {})
    assert path == "/api/chat"
    assert own == {
        "model": "m",
        "stream": False,
        "truncate": False,
        "options": {"num_predict": 1},
        "messages": [
            {"role": "system", "content": "brief"},
            {"role": "user", "content": "look"},
            {"role": "user", "content": "", "images": ["AAAA"]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
            },
        ],
        "tools": tools,
    }


@pytest.mark.parametrize(
    ("path", "asked", "own"),
    [
        ("/v1/completions", {"prompt": "a", "suffix": "b"}, {"prompt": "a", "suffix": "b"}),
        ("/v1/embeddings", {"input": ["a", "b"]}, {"input": ["a", "b"]}),
        (
            "/v1/messages",
            {
                "system": [{"type": "text", "text": "s"}],
                "messages": [{"role": "user", "content": "u"}],
                "tools": [TOOL],
            },
            {
                "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "description": "d", "parameters": {"type": "object"}},
                    }
                ],
            },
        ),
        ("/v1/responses", {"input": "u"}, {"messages": [{"role": "user", "content": "u"}]}),
        (
            "/v1/responses",
            {"instructions": "s", "input": [{"role": "user", "content": [{"type": "input_text", "text": "u"}]}]},
            {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]},
        ),
    ],
)
def test_other_apis_prompts_are_ollamas(path: str, asked: dict[str, Any], own: dict[str, Any]) -> None:
    found = as_own(path, {"model": "m", **asked})
    assert found is not None
    assert own.items() <= found[1].items()
    assert found[1]["truncate"] is False


def test_what_has_no_prompt_isnt_probed() -> None:
    assert as_own("/api/show", {"model": "m"}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["role", "content", "text", "type", "url"]), inner),
)


@given(
    st.sampled_from(["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/responses"]),
    st.dictionaries(st.sampled_from(["messages", "input", "system", "tools", "prompt", "instructions"]), JSON),
)
def test_whatever_a_client_sends_it_can_be_asked_and_measured(path: str, asked: dict[str, Any]) -> None:
    found = as_own(path, asked)
    assert found is not None
    assert json.dumps(found[1])
    assert size(found[1]) > 0


@given(st.text())
def test_the_measure_is_never_below_the_bytes_of_the_text(text: str) -> None:
    assert size({"messages": [{"role": "user", "content": text}]}) >= len(text.encode("utf-8", "surrogatepass"))


def test_engines_words_for_a_prompt_that_is_too_long() -> None:
    assert too_long(400, b'{"error":"the input length exceeds the context length"}')
    assert too_long(400, b'{"error":"the prompt has 9 tokens, the context only 8"}')
    assert not too_long(200, b"the input length exceeds the context length")
    assert not too_long(400, b'{"error":"invalid options"}')
