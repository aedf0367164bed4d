from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.engine import embedded_translate as translate
from cluster_ai.engine.embedded_translate import RefusedError

NOW = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["model", "prompt", "messages", "system", "stream", "raw", "options", "format", "tools", "images", "suffix"]
)


def chat(**more: Any) -> translate.Ask:
    return translate.ask("chat", {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more})


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", "missing request body"), (b"{bad", "invalid JSON"), (b"[]", "JSON object"), (b"\xff", "invalid JSON")],
)
def test_a_body_that_is_no_json_object_is_refused_with_400(data: bytes, error: str) -> None:
    with pytest.raises(RefusedError, match=error) as refused:
        translate.body(data)
    assert refused.value.status == 400


def test_a_name_without_a_tag_is_the_latest_and_case_does_not_count() -> None:
    assert translate.canonical("SmolLM2") == "smollm2:latest"
    assert translate.canonical("a.example:5000/x/SmolLM2") == "a.example:5000/x/smollm2:latest"
    assert translate.canonical("smollm2:135M") == "smollm2:135m"


def test_an_unknown_model_is_refused_in_the_words_of_ollama() -> None:
    refused = translate.unknown_model("nope")
    assert (refused.status, refused.error) == (404, "model 'nope' not found")


def test_answers_stream_unless_it_is_declined() -> None:
    assert chat().stream
    assert not chat(stream=False).stream


def test_options_become_fields_of_llama_cpp_over_the_defaults_of_ollama() -> None:
    fields = chat(options={"temperature": 0, "seed": 7, "top_k": 1, "stop": "x", "num_gpu": 3}).fields
    assert {"temperature": 0.0, "seed": 7, "top_k": 1, "top_p": 0.9, "stop": ["x"]}.items() <= fields.items()
    assert "num_gpu" not in fields


@pytest.mark.parametrize(
    "options", [{"temperature": "hot"}, {"seed": 1.5}, {"top_k": True}, {"stop": [1]}, {"seed": float("inf")}]
)
def test_an_option_of_the_wrong_type_is_refused_and_named(options: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match=next(iter(options))) as refused:
        chat(options=options)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("more", "error"), [({"tools": [{}]}, "tools"), ({"images": ["x"]}, "image"), ({"format": 3}, "format")]
)
def test_what_the_model_cannot_do_is_refused(more: dict[str, Any], error: str) -> None:
    with pytest.raises(RefusedError, match=error):
        chat(**more)


def test_a_prompt_becomes_a_conversation_and_a_raw_one_stays_as_it_is() -> None:
    ask = translate.ask("generate", {"model": "m", "prompt": "p", "system": "s"})
    assert ask.messages == ({"role": "system", "content": "s"}, {"role": "user", "content": "p"})
    raw = translate.ask("generate", {"model": "m", "prompt": "p", "raw": True})
    assert (raw.raw, raw.messages) == ("p", ())


def test_a_request_without_a_prompt_only_loads() -> None:
    assert translate.ask("generate", {"model": "m"}).only_loads
    assert translate.ask("chat", {"model": "m", "messages": []}).only_loads
    assert not chat().only_loads


def test_a_schema_constrains_the_answer() -> None:
    assert chat(format={"type": "object"}).fields["json_schema"] == {"type": "object"}
    assert chat(format="json").fields["json_schema"] == {"type": "object"}


@pytest.mark.parametrize(("num_predict", "room", "limit"), [(-1, 100, 100), (10, 100, 10), (1000, 100, 100)])
def test_an_answer_never_outgrows_the_context(num_predict: int, room: int, limit: int) -> None:
    body = translate.completion(chat(options={"num_predict": num_predict}), "p", room)
    assert body["n_predict"] == limit


def test_a_conversation_is_shortened_from_its_oldest_turn_but_keeps_system_and_last() -> None:
    turns = tuple({"role": r, "content": str(i)} for i, r in enumerate(["system", "user", "assistant", "user"]))
    once = translate.shortened(turns)
    assert once is not None
    assert [t["content"] for t in once] == ["0", "2", "3"]
    twice = translate.shortened(once)
    assert twice is not None
    assert translate.shortened(twice) is None


def test_the_last_line_counts_in_nanoseconds_and_says_why_it_ended() -> None:
    final = {"stop_type": "limit", "tokens_evaluated": 5, "tokens_predicted": 9}
    final["timings"] = {"prompt_ms": 1.5, "predicted_ms": 20}
    line = translate.last(chat(), "", final, NOW, 0.25, 0.125)
    assert line["done"]
    assert line["done_reason"] == "length"
    assert (line["total_duration"], line["load_duration"]) == (250_000_000, 125_000_000)
    assert (line["prompt_eval_count"], line["prompt_eval_duration"]) == (5, 1_500_000)
    assert (line["eval_count"], line["eval_duration"]) == (9, 20_000_000)
    assert line["created_at"] == "2026-11-24T06:00:00Z"
    assert translate.last(chat(), "", {"stop_type": "eos"}, NOW, 0, 0)["done_reason"] == "stop"


@given(st.sampled_from(["chat", "generate"]), st.dictionaries(KEYS, JSON, max_size=6))
def test_any_request_is_taken_or_refused_with_a_status_for_the_client(kind: translate.Kind, body: Any) -> None:
    try:
        ask: translate.Ask | RefusedError = translate.ask(kind, body)
    except RefusedError as refused:
        ask = refused
    if isinstance(ask, RefusedError):
        assert ask.status == 400
    else:
        json.dumps(translate.completion(ask, "p", 10))
