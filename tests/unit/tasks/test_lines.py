from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.tasks.batches import lines
from cluster_ai.tasks.model import Spec, State, Task

CHAT = "/v1/chat/completions"


def line(custom_id: str = "a", **changed: Any) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body, **changed}).encode()


def test_each_filled_line_is_a_request() -> None:
    assert lines.check([line("a"), b"\n", line("b")], CHAT) == (2, [])
    custom_id, spec = lines.request(line("a"), CHAT)
    assert (custom_id, spec.kind, spec.idempotent, spec.priority) == ("a", "ai_inference", True, -10)
    assert spec.payload["endpoint"] == CHAT


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (b"{", "invalid_json_line"),
        (b"[]", "invalid_request"),
        (line(custom_id=""), "missing_required_parameter"),
        (line(method="GET"), "invalid_method"),
        (line(url="/v1/embeddings"), "mismatched_url"),
        (line(body={"messages": []}), "invalid_request"),
        (line(body={"model": "m", "stream": True}), "invalid_request"),
        (line(body=None), "missing_required_parameter"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(wrong: bytes, code: str) -> None:
    _, found = lines.check([line("x"), wrong], CHAT)
    assert [(it.code, it.line) for it in found] == [(code, 2)]


def test_an_id_stands_once_in_a_file() -> None:
    _, found = lines.check([line("x"), b"", line("x")], CHAT)
    assert [(it.code, it.line) for it in found] == [("duplicate_custom_id", 3)]


def test_a_file_without_requests_is_wrong() -> None:
    assert [it.code for it in lines.check([b"\n"], CHAT)[1]] == ["empty_file"]


def test_models_that_the_user_may_not_use_are_told_with_their_lines() -> None:
    other = line("b", body={"model": "other", "messages": []})
    assert lines.check([line("a"), other], CHAT, frozenset(("m:latest", "other:latest"))) == (2, [])
    ((wrong),) = lines.check([line("a"), other], CHAT, frozenset(("m:latest",)))[1]
    assert (wrong.code, wrong.line) == ("model_not_allowed", 2)
    assert wrong.message == "body.model: other:latest may not be used, only: m:latest"


def test_so_many_faults_are_told_and_no_more() -> None:
    assert len(lines.check([b"{"] * 1000, CHAT)[1]) == lines.TOLD


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_are_taken_for_a_fault_of_ours(found: list[bytes]) -> None:
    lines.check(found, CHAT)


def ended(state: State, error: str | None = None, result: Any = None) -> Task:
    spec = Spec("ai_inference", {"model": "m", "custom_id": "a"})
    return Task("task-1f", "ada", spec, state, 1, 0.0, 1.0, "w1", error, result)


def test_an_answer_and_a_fault_look_as_openai_tells_them() -> None:
    done = lines.answer(ended(State.DONE, result={"choices": []}))
    assert done == {
        "id": "batch_req_1f",
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "task-1f", "body": {"choices": []}},
        "error": None,
    }
    failed = lines.fault(ended(State.FAILED, "no"), expired=False)
    assert failed is not None
    assert failed["error"] == {"code": "request_failed", "message": "no"}
    late = lines.fault(ended(State.CANCELLED), expired=True)
    assert late is not None
    assert late["error"]["code"] == "batch_expired"
    assert lines.fault(ended(State.CANCELLED), expired=False) is None
