from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.client import (
    ApiError,
    AsyncClient,
    Client,
    ClientError,
    NotFoundError,
    ProtocolError,
    ServerError,
    StreamBrokenError,
    Text,
    TooManyRequestsError,
    UnreachableError,
    calls,
    model_types,
    types,
)
from cluster_ai.client.errors import refused
from cluster_ai.client.transport import Lines, answered
from cluster_ai.client.wire import reader

API = json.loads((Path(__file__).parents[3] / "clients" / "openapi.json").read_text())
SCHEMAS = API["components"]["schemas"]
NAMED_OTHERWISE = {"Message": "ChatMessage"}
TYPES = [
    kind
    for name, kind in {**vars(types), **vars(model_types)}.items()
    if dataclasses.is_dataclass(kind) and name not in ("Text", "Figures") and isinstance(kind, type)
]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_a_type_has_exactly_the_fields_of_the_description(kind: type[Any]) -> None:
    schema = SCHEMAS[NAMED_OTHERWISE.get(kind.__name__, kind.__name__)]
    assert {field.name for field in dataclasses.fields(kind)} == schema["properties"].keys()
    hints = typing.get_type_hints(kind)
    for name, field in schema["properties"].items():
        nullable = any(part.get("type") == "null" for part in field.get("anyOf", ()))
        assert nullable == (type(None) in typing.get_args(hints[name])), name


def _operations() -> set[tuple[str, str]]:
    return {(verb.upper(), path) for path, operations in API["paths"].items() for verb in operations}


def _asked_by_the_client() -> set[tuple[str, str]]:
    """Every function of calls.py, with its parameters' names as values, so that paths look as in the description."""
    found = set()
    for name, make in inspect.getmembers(calls, inspect.isfunction):
        if name.startswith("_") or make.__module__ != calls.__name__ or name.endswith("_body"):
            continue
        values: dict[str, Any] = {p: f"{{{p}}}" for p in inspect.signature(make).parameters}
        values |= {p: {} for p in ("body", "needs", "variables", "payload") if p in values}
        values |= {p: [] for p in ("tasks",) if p in values}
        values |= {p: types.KeyLimits() for p in ("limits",) if p in values}
        call = make(**values)
        found.add((getattr(call, "method", "POST"), call.path.replace("%7B", "{").replace("%7D", "}")))
    return found


def test_every_operation_can_be_asked_from_python() -> None:
    of_people = {  # who logs in is a person at a command line or the dashboard; a program has a key
        ("POST", "/api/v1/login"),
        ("POST", "/api/v1/login/refresh"),
        ("GET", "/api/v1/login/oidc"),
        ("POST", "/api/v1/login/oidc"),
        ("POST", "/api/v1/logout"),
        ("POST", "/api/v1/password"),
        ("GET", "/api/v1/audit"),
        ("GET", "/api/v1/plan"),
        ("GET", "/api/v1/rollouts"),
        ("GET", "/api/v1/rollouts/{id}"),
        ("GET", "/api/v1/rollouts/{id}/configuration"),
    }
    assert _operations() - _asked_by_the_client() == of_people
    assert _asked_by_the_client() <= _operations()


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type[Any]) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(it).parameters) for name, it in found if not name.startswith("_")}

    blocking, waiting = methods(Client), methods(AsyncClient)
    assert blocking.pop("close") == waiting.pop("aclose")
    assert blocking == waiting


def test_a_newer_gateway_may_say_more_and_an_older_one_less_is_told() -> None:
    said = {"worker": "w", "done": True, "error": None, "mood": "fine"}
    assert reader(model_types.WorkerOutcome)(said) == model_types.WorkerOutcome("w", True, None)
    wrongs: list[Any] = [{"worker": "w"}, {**said, "done": "yes"}, [], None, "text", 3]
    for wrong in wrongs:
        with pytest.raises(ProtocolError):
            reader(model_types.WorkerOutcome)(wrong)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda it: st.lists(it) | st.dictionaries(st.text(), it)
    )
)
def test_nothing_that_answers_breaks_the_reader(answer: Any) -> None:
    for kind in (types.Status, types.ChatReply, types.UsageReply):
        with pytest.raises(ProtocolError):
            reader(kind)(answer)


def test_a_refusal_becomes_an_error_with_its_fields() -> None:
    body = {"error": {"code": "user_limit", "message": "too much"}, "request_id": "r"}
    error = refused(429, body, {"x-request-id": "r", "retry-after": "7"})
    assert isinstance(error, TooManyRequestsError)
    assert (error.status, error.code, error.message, error.request_id, error.retry_after) == (
        429,
        "user_limit",
        "too much",
        "r",
        7.0,
    )
    assert isinstance(refused(404, body, {}), NotFoundError)


@pytest.mark.parametrize("body", [None, [], {}, {"error": "text"}, {"error": {"code": 3}}])
@pytest.mark.parametrize("status", [400, 418, 500, 504])
def test_whatever_refuses_the_error_says_what_is_known(status: int, body: Any) -> None:
    error = refused(status, body, {"retry-after": "soon"})
    assert isinstance(error, ServerError if status >= 500 else ApiError)
    assert (error.status, error.retry_after) == (status, None)
    assert str(status) in str(error)


def test_an_answer_that_is_no_json_is_no_gateways() -> None:
    with pytest.raises(ProtocolError, match="<html>"):
        answered(calls.status(), httpx.Response(200, text="<html>"))


def test_a_stream_is_pieces_of_text_and_then_the_reply() -> None:
    lines = Lines(calls.stream_generate({}))
    assert lines.piece('{"response":"a","done":false}') == Text("a")
    assert lines.piece('{"response":"","done":false}') is None
    assert lines.reply is None
    last = json.dumps(SCHEMAS["GenerateReply"]["examples"][0] | {"response": ""})
    assert lines.piece(last) is None
    assert lines.reply is not None
    assert lines.reply.worker == "gpu-worker-01"


def test_a_stream_that_breaks_tells_what_had_come() -> None:
    lines = Lines(calls.stream_chat({}))
    lines.piece('{"message":{"role":"assistant","content":"so far"},"done":false}')
    with pytest.raises(StreamBrokenError) as caught:
        lines.piece('{"error":{"code":"stream_broken","message":"lost"},"request_id":"r"}')
    error = caught.value
    assert (error.text, error.code, error.message, error.request_id) == ("so far", "stream_broken", "lost", "r")
    assert lines.broken().text == "so far"


def test_a_gateway_that_is_not_there_is_unreachable() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(UnreachableError):
        client.status()
    with Client("http://127.0.0.1:9") as client, pytest.raises(UnreachableError):
        list(client.stream_generate("m", "x"))


async def test_it_is_unreachable_with_asyncio_too() -> None:
    async with AsyncClient("http://127.0.0.1:9") as client:
        with pytest.raises(UnreachableError):
            await client.status()


def test_every_error_is_one_of_the_clients() -> None:
    from cluster_ai.client import errors

    found = [it for _, it in inspect.getmembers(errors, inspect.isclass) if it.__module__ == errors.__name__]
    assert all(issubclass(it, ClientError) for it in found)


def test_a_key_is_not_shown_where_it_is_logged() -> None:
    key = types.NewKey(
        name="a",
        priority=0,
        role="user",
        limits=types.KeyLimits(),
        models=None,
        created="",
        ends=None,
        key="cai-secret",
    )
    assert "cai-secret" not in repr(key)
