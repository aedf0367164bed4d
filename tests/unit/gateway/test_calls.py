"""From a body to a call."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.api.http import Api, Refusal
from cluster_ai.gateway.balancing import NO_WISH, Wish
from cluster_ai.gateway.calls import STRICT, Route, admit, wish_of, with_context

CHAT = Route("/api/chat", Api.OLLAMA, True)
OPENAI = Route("/v1/chat/completions", Api.OPENAI, False)
EMBED = Route("/api/embed", Api.OLLAMA, None)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def body(**value: Any) -> bytes:
    return json.dumps(value).encode()


def test_the_model_is_found_under_its_one_spelling_and_the_body_passes_as_it_is() -> None:
    raw = b'{ "model" : "SmolLM2", "messages": [], "truncate": true }'
    call = admit(CHAT, raw, {})
    assert (call.model, call.asked, call.body, call.whole) == ("smollm2:latest", "SmolLM2", raw, False)


@pytest.mark.parametrize(
    ("route", "stream", "whole"),
    [(CHAT, None, False), (CHAT, False, True), (OPENAI, None, True), (OPENAI, True, False), (EMBED, True, True)],
)
def test_whether_an_answer_streams_is_the_apis_habit_unless_the_body_says(
    route: Route, stream: bool | None, whole: bool
) -> None:
    assert admit(route, body(model="m", stream=stream), {}).whole is whole


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "missing request body"),
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "model is required"),
        (b'{"model": 1}', "model is required"),
        (b'{"model": " "}', "model is required"),
        (b'{"model": "m", "stream": "yes"}', "true or false"),
        (b'{"model": "m", "options": 3}', "options must be an object"),
    ],
)
def test_what_is_wrong_is_said_with_400(raw: bytes, told: str) -> None:
    with pytest.raises(Refusal, match=told) as caught:
        admit(CHAT, raw, {"m:latest": 4096})
    assert caught.value.status == 400


@pytest.mark.parametrize("raw", [b"{}", b'{"model": ""}', b'{"model": null, "prompt": "x"}'])
def test_where_ollama_looks_for_a_model_without_a_name_it_is_not_found(raw: bytes) -> None:
    for path in ("/api/generate", "/api/embed"):
        with pytest.raises(Refusal, match="model '' not found") as caught:
            admit(Route(path, Api.OLLAMA, True), raw, {})
        assert caught.value.status == 404


def test_the_clusters_context_size_replaces_the_clients() -> None:
    call = admit(CHAT, body(model="m", options={"num_ctx": 100, "seed": 1}), {"m:latest": 4096})
    assert json.loads(call.body)["options"] == {"num_ctx": 4096, "seed": 1}


def test_a_body_that_needs_no_change_stays_byte_for_byte() -> None:
    raw = b'{"model":"m",  "options":{"num_ctx": 4096}, "truncate": false}'
    assert admit(CHAT, raw, {"m:latest": 4096}).body is raw
    other = body(model="other", options={"num_ctx": 1}, truncate=True)
    assert admit(CHAT, other, {"m:latest": 4096}).body is other


@pytest.mark.parametrize("options", [{}, {"options": {"num_ctx": 4096}}, {"options": {"num_ctx": 1}}])
def test_the_engine_is_asked_not_to_cut_a_prompt_in_silence(options: dict[str, Any]) -> None:
    call = admit(CHAT, body(model="m", **options), {"m:latest": 4096})
    assert call.body.startswith(b"{" + STRICT)
    assert json.loads(call.body) == {"model": "m", "truncate": False, "options": {"num_ctx": 4096}}


def test_openais_bodies_have_no_options_and_are_left_alone() -> None:
    raw = body(model="m")
    assert admit(OPENAI, raw, {"m:latest": 4096}).body is raw


@given(
    value=st.dictionaries(st.text().filter(lambda k: k not in ("options", "truncate")), JSON),
    options=st.none() | st.dictionaries(st.text(), JSON),
    strict=st.booleans(),
)
def test_only_the_context_size_changes(value: dict[str, Any], options: dict[str, Any] | None, strict: bool) -> None:
    asked = {"model": "m", **value, **({} if options is None else {"options": options})}
    raw = b" \n" + json.dumps(asked).encode()
    changed = json.loads(with_context(raw, json.loads(raw), 512, strict=strict))
    assert changed == {
        **asked,
        "options": {**(options or {}), "num_ctx": 512},
        **({"truncate": False} if strict else {}),
    }


def test_headers_wish_for_a_policy_and_a_worker() -> None:
    assert wish_of(b"", b"") == NO_WISH
    assert wish_of(b"Round_Robin ", b"w1") == Wish("round_robin", "w1")
    with pytest.raises(Refusal, match=r"'fastest' is no policy; allowed: .*least_loaded, .*round_robin") as caught:
        wish_of(b"fastest", b"")
    assert caught.value.status == 400
