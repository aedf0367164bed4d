"""What a body may be."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.parsing import MANY, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text().filter(lambda key: key == key.casefold() and key != "stream"), VALUES))
def test_what_is_json_is_read_as_it_is(value: dict[str, object]) -> None:
    assert parse(json.dumps(value).encode()) == value


@given(st.binary())
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(Refusal):
        assert isinstance(parse(body), dict)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"a":NaN}', "NaN is no number"),
        (b'{"a":-Infinity}', "-Infinity is no number"),
        (b'{"a":"\xff"}', "not UTF-8 at byte 6"),
        (b'{"a":' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b"[]", "must be a JSON object"),
        (b'{"Model":"x","model":"y"}', "'Model' must be written 'model'"),
        ('{"option\u017f":{}}'.encode(), "must be written 'options'"),
        (b'{"stream":1}', "stream must be true or false"),
    ],
)
def test_what_is_refused_says_why(body: bytes, told: str) -> None:
    with pytest.raises(Refusal, match=told) as caught:
        parse(body)
    assert caught.value.status == 400
    assert len(caught.value.message) < 200


def test_other_keys_may_be_written_as_one_likes() -> None:
    assert parse(b'{"Custom":1,"custom":2}') == {"Custom": 1, "custom": 2}


def test_a_body_of_very_many_values_is_too_large_but_a_long_text_isnt() -> None:
    with pytest.raises(Refusal, match="more than") as caught:
        parse(b'{"a":[' + b"0," * MANY + b"0]}")
    assert caught.value.status == 413
    assert len(parse(b'{"a":"' + b"x" * (4 * MANY) + b'"}')["a"]) == 4 * MANY
