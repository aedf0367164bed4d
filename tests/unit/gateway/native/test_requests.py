"""What is asked of the native API, less what only a running gateway can say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.answer import parse
from cluster_ai.gateway.api.native.generate import GenerateRequest
from cluster_ai.gateway.api.native.models import LoadRequest
from cluster_ai.gateway.api.native.workers import WorkerRequest
from cluster_ai.gateway.models.memory import options_of


def test_ollamas_parameters_become_options_with_lists_where_one_is_said_twice() -> None:
    text = 'num_ctx                        2048\nstop   "<|im_start|>"\nstop "a \\"b\\""\ntemperature 0.7\n\n'
    assert options_of(text) == {"num_ctx": "2048", "stop": ["<|im_start|>", 'a "b"'], "temperature": "0.7"}


@given(st.text())
def test_no_text_of_an_engine_breaks_it(text: str) -> None:
    assert isinstance(options_of(text), dict)


@pytest.mark.parametrize("good", ["5m", "1h30m", "-1s", "0.5h", 300, -1, 300.0, None])
def test_how_long_a_model_stays_is_said_as_ollama_takes_it(good: Any) -> None:
    assert LoadRequest.model_validate({"keep_alive": good}).keep_alive == good


@pytest.mark.parametrize("bad", ["", "5", "m", "\u0665m", "5 m", True, 1.5, -2, ["5m"]])
def test_what_ollama_would_not_take_is_refused_before(bad: Any) -> None:
    with pytest.raises(ValidationError):
        LoadRequest.model_validate({"keep_alive": bad})


@pytest.mark.parametrize(
    "url", ["https://lent-01.cluster.ai:11443", "https://10.0.0.7:1", "http://127.0.0.1:65535", "http://[::1]:80"]
)
def test_a_worker_is_reached_by_tls_or_on_loopback(url: str) -> None:
    assert WorkerRequest.model_validate({"name": "a", "url": url}).url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.7:11434",
        "http://127.0.0.1.evil.example:80",
        "http://127.0.0.1:80@evil.example:80",
        "https://user@host:1",
        "https://host",
        "https://host:0",
        "https://host:65536",
        "https://host:1/path",
        "https://host:1?a=b",
        "ftp://127.0.0.1:1",
        "https://host:1\nhost: x",
    ],
)
def test_any_other_address_of_a_worker_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        WorkerRequest.model_validate({"name": "a", "url": url})


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "missing"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b'{"model": "m", "prompt": 1}', "prompt"),
        (b'{"model": "m", "prompt": "x", "stream": 1}', "stream"),
        (b'{"model": "m", "prompt": "x", "promt": "y"}', "promt"),
        (b'{"model": "m", "prompt": "\\ud800"}', "JSON"),
        (b'{"model": "m", "prompt": "x", "options": {"seed": NaN}}', "NaN"),
        (b'{"model": "m", "Model": "n", "prompt": "x"}', "'Model'"),
        (b'{"model": "m", "prompt": "x", "format": ' + b"[" * 5000, "nested"),
    ],
)
def test_a_wrong_body_is_told_with_the_field(body: bytes, told: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse(body, GenerateRequest)
    assert caught.value.status == 400
    assert told in caught.value.message


@given(st.binary())
def test_no_body_breaks_it(body: bytes) -> None:
    with pytest.raises(Refusal):
        parse(body, GenerateRequest)
