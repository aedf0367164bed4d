"""What is asked of another engine so that it goes on."""

from __future__ import annotations

from typing import Any

import pytest

from cluster_ai.gateway.failover.question import Facts, facts, question
from cluster_ai.gateway.failover.said import UnresumableError

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_ollamas_own_request_is_rendered_and_goes_on_with_the_same_options() -> None:
    options = {"temperature": 0, "num_ctx": 64, "num_predict": 9}
    asked = question("/api/chat", {**CHAT, "options": options, "keep_alive": "1h", "stream": True})
    assert asked.path == "/api/chat"
    assert asked.render == {
        **CHAT,
        "options": options,
        "keep_alive": "1h",
        "stream": False,
        "_debug_render_only": True,
    }
    assert asked.onward("<p>", "said", 4) == {
        "model": "m",
        "prompt": "<p>said",
        "raw": True,
        "think": False,
        "stream": True,
        "options": {**options, "num_predict": 4},
        "keep_alive": "1h",
    }


def test_a_raw_prompt_needs_no_rendering() -> None:
    assert question("/api/generate", {"model": "m", "prompt": "p", "raw": True}).prompt == "p"
    assert question("/api/generate", {"model": "m", "prompt": "p"}).prompt is None


def test_openais_request_becomes_the_options_that_ollama_makes_of_it() -> None:
    asked = question(
        "/v1/chat/completions",
        {**CHAT, "max_tokens": 5, "seed": 3, "stop": "x", "stream": True, "stream_options": {"include_usage": True}},
    )
    assert asked.options == {"temperature": 1.0, "top_p": 1.0, "num_predict": 5, "seed": 3, "stop": ["x"]}
    assert (asked.path, asked.usage, asked.render["stream"]) == ("/v1/chat/completions", True, False)
    asked = question("/v1/completions", {"model": "m", "prompt": "p", "temperature": 0})
    assert asked.options == {"temperature": 0, "top_p": 1.0, "frequency_penalty": 0, "presence_penalty": 0}
    assert (asked.path, asked.usage) == ("/api/generate", False)


def test_anthropics_request_is_rendered_as_a_chat() -> None:
    told = {
        "model": "m",
        "max_tokens": 5,
        "temperature": 0,
        "system": [{"type": "text", "text": "be brief"}],
        "stop_sequences": ["x"],
    }
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = question("/v1/messages", {**told, "messages": [{"role": "user", "content": content}]})
    assert asked.render["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "ab"}]
    assert asked.options == {"num_predict": 5, "temperature": 0, "stop": ["x"]}


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/api/chat", {"tools": [{}]}),
        ("/api/chat", {"format": {"type": "object"}}),
        ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}),
        ("/v1/chat/completions", {"response_format": {"type": "json_object"}}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        ("/v1/chat/completions", {"logprobs": True}),
        ("/v1/responses", {}),
    ],
)
def test_what_more_than_a_text_decides_is_not_gone_on_with(path: str, more: dict[str, Any]) -> None:
    with pytest.raises(UnresumableError):
        question(path, {**CHAT, **more})


def test_an_engine_that_renders_nothing_is_told() -> None:
    with pytest.raises(UnresumableError):
        question("/api/chat", CHAT).rendered({"message": {"content": "hello"}})


def test_the_limit_and_the_stops_are_the_requests_else_the_models() -> None:
    known = facts(
        {
            "parameters": 'num_predict         42\nstop                "<|im_end|>"\nstop  "\\u003cx"',
            "modelfile": "FROM x\nTEMPLATE y\n",
            "capabilities": ["completion", "thinking"],
        }
    )
    assert known == Facts(("<|im_end|>", "<x"), 42, False, True)
    asked = question("/api/chat", CHAT)
    assert (asked.limit(known), asked.stops(known)) == (42, ("<|im_end|>", "<x"))
    asked = question("/api/chat", {**CHAT, "options": {"num_predict": -1, "stop": ["y"]}})
    assert (asked.limit(known), asked.stops(known)) == (None, ("y",))


@pytest.mark.parametrize("shown", [{"modelfile": "FROM x\nPARSER qwen3-coder\n"}, {"details": {"family": "gptoss"}}])
def test_answers_that_the_engine_reads_with_a_parser_are_known(shown: dict[str, Any]) -> None:
    assert facts(shown).parsed
