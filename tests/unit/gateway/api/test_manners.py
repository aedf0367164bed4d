"""Errors and ends of streams, as each API has them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.api import anthropic, openai
from cluster_ai.gateway.api.http import Api, Refusal, api_of, error_body
from cluster_ai.gateway.api.sse import Events
from cluster_ai.gateway.metering import Usage, usage_of

CHAT_END = (
    b'data: {"choices":[{"delta":{}}]}\n\ndata: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
)
DONE = b"data: [DONE]\n\n"
MESSAGE_END = (
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"input_tokens":9,"output_tokens":4}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
RESPONSE_END = (
    b'event: response.completed\ndata: {"response":{"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4}},'
    b'"sequence_number":9,"type":"response.completed"}\n\n'
)


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/messages", Api.ANTHROPIC),
        ("/v1/messages/count_tokens", Api.ANTHROPIC),
        ("/v1/models/x", Api.OPENAI),
        ("/api/v1/generate", Api.NATIVE),
        ("/api/chat", Api.OLLAMA),
    ],
)
def test_a_path_says_whose_manners_its_answer_has(path: str, api: Api) -> None:
    assert api_of(path) is api


def test_openais_errors_have_its_types_codes_and_parameters() -> None:
    unknown = error_body(Api.OPENAI, Refusal(404, "model_not_found", "model 'x' not found"), "r1")["error"]
    assert unknown == {
        "message": "model 'x' not found",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert openai.error(401, "unauthorized", "no")["error"]["code"] == "invalid_api_key"
    assert openai.error(429, "too_many_requests", "later")["error"]["type"] == "rate_limit_error"
    assert openai.error(503, "no_worker", "down")["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b'{"error":{"message":"gone","type":"api_error"}}', ("gone", "invalid_request_error", "model_not_found")),
        (400, b'{"error":"bad"}', ("bad", "invalid_request_error", "invalid_request")),
        (500, b"Internal", ("Internal", "server_error", "engine_error")),
        (502, b"", ("the engine answered 502 without a reason", "server_error", "engine_error")),
        (
            400,
            b'{"error":{"message":"the input length exceeds the context length"}}',
            ("the input length exceeds the context length", "invalid_request_error", "context_length_exceeded"),
        ),
    ],
)
def test_an_engines_error_is_told_as_openai_would(status: int, body: bytes, expected: tuple[str, str, str]) -> None:
    told = json.loads(openai.retold(status, body))["error"]
    assert (told["message"], told["type"], told["code"]) == expected


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "authentication_error"), (503, "overloaded_error"), (500, "api_error")]
)
def test_anthropics_errors_have_its_types(status: int, kind: str) -> None:
    told = error_body(Api.ANTHROPIC, Refusal(status, "x", "why"), "r1")
    assert told == {"type": "error", "error": {"type": kind, "message": "why"}, "request_id": "r1"}


@given(data=st.data())
@pytest.mark.parametrize(
    ("stream", "ends"),
    [(CHAT_END + DONE, openai.ends), (RESPONSE_END, openai.ends), (MESSAGE_END, anthropic.ends)],
)
def test_a_streams_end_and_usage_are_seen_however_it_was_cut(stream: bytes, ends: object, data: st.DataObject) -> None:
    tail, rest = Events(), stream
    for _ in range(2000):
        tail.feed(b"data: {}\n\n")
    while rest:
        cut = data.draw(st.integers(1, 60))
        tail.feed(rest[:cut])
        rest = rest[cut:]
    assert callable(ends)
    assert ends(tail.line)
    assert tail.at_line_end()
    assert len(tail.line) < 10_000
    assert isinstance(usage_of(tail.line), Usage)


@pytest.mark.parametrize("end", [b"", b'data: {"choices":[{}]}\n\n', b'data: {"text":"data: [DONE]', b"data: [DO"])
def test_a_stream_that_broke_off_has_no_end(end: bytes) -> None:
    assert not openai.ends(b"data: {}\n\n" + end)
    assert not anthropic.ends(b"event: x\ndata: {}\n\n" + end)


def test_a_stream_that_ended_in_an_error_is_whole() -> None:
    assert openai.ends(b'data: {"error":{"message":"x"}}\n\n')
    assert anthropic.ends(b'event: error\ndata: {"type":"error","error":{}}\n\n')


@given(data=st.data())
def test_an_event_of_usage_that_the_client_did_not_want_is_kept_from_it(data: st.DataObject) -> None:
    passed, hidden, rest = b"", openai.WithoutUsage(), CHAT_END + DONE
    while rest:
        cut = data.draw(st.integers(1, 60))
        passed += hidden.feed(rest[:cut])
        rest = rest[cut:]
    assert passed + hidden.end() == b'data: {"choices":[{"delta":{}}]}\n\n' + DONE


@pytest.mark.parametrize("asked", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False, "x": 1}}])
def test_the_engine_is_asked_for_the_usage_of_every_chat_stream(asked: dict[str, object]) -> None:
    value = {"model": "m", "messages": [{"content": "ü"}], **asked}
    changed = json.loads(openai.for_engine(b" " + json.dumps(value).encode(), value, whole=False))
    assert changed.pop("stream_options")["include_usage"] is True
    assert changed == {"model": "m", "messages": [{"content": "ü"}]}


@pytest.mark.parametrize("given", [{"include_usage": True}, "nonsense", [1]])
def test_what_already_asks_or_is_wrong_is_left_to_the_engine(given: object) -> None:
    body = json.dumps({"stream_options": given}).encode()
    assert openai.for_engine(body, {"stream_options": given}, whole=False) is body


def test_the_newer_name_for_the_most_tokens_counts_as_the_older() -> None:
    newer = {"model": "m", "max_completion_tokens": 5}
    assert json.loads(openai.for_engine(json.dumps(newer).encode(), newer, whole=True)) == {**newer, "max_tokens": 5}
    unset = {**newer, "max_tokens": None}
    assert json.loads(openai.for_engine(json.dumps(unset).encode(), unset, whole=True)) == {**newer, "max_tokens": 5}
    both = {**newer, "max_tokens": 3}
    body = json.dumps(both).encode()
    assert openai.for_engine(body, both, whole=True) is body
