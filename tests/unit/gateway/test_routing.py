"""Who answers which path."""

from __future__ import annotations

import pytest

from cluster_ai.gateway.api.http import Receive, Refusal, Scope, Send
from cluster_ai.gateway.routing import Table
from cluster_ai.gateway.trace import Trace


async def one(scope: Scope, receive: Receive, send: Send, trace: Trace) -> None: ...


async def other(scope: Scope, receive: Receive, send: Send, trace: Trace) -> None: ...


@pytest.fixture
def table() -> Table:
    table = Table()
    table.add("GET", "/api/tags", one)
    table.add("POST", "/api/chat", one)
    table.below("/api/blobs/", "{digest}", HEAD=other, POST=one)
    table.below("/v1/models/", "{model}", GET=other)
    return table


def test_a_path_and_its_method_find_their_handler(table: Table) -> None:
    assert table.find("GET", "/api/tags") is one
    assert table.find("HEAD", "/api/tags") is one
    assert table.find("POST", "/api/blobs/sha256:1") is one
    assert table.find("HEAD", "/api/blobs/sha256:1") is other
    assert table.find("GET", "/v1/models/library/llama3:latest") is other


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/chat", 405),
        ("DELETE", "/api/blobs/x", 405),
        ("GET", "/api/blobs/", 404),
        ("GET", "/nothing", 404),
        ("GET", "", 404),
    ],
)
def test_what_is_not_here_says_so_and_what_is_allowed(table: Table, method: str, path: str, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        table.find(method, path)
    assert caught.value.status == status
    assert (b"allow" in dict(caught.value.headers)) is (status == 405)


def test_a_metric_never_bears_what_a_client_made_up(table: Table) -> None:
    assert table.name("/api/tags") == "/api/tags"
    assert table.name("/api/blobs/sha256:1") == "/api/blobs/{digest}"
    assert table.name("/api/nonsense") is None
