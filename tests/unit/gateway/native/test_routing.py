from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.api.native.routing import (
    LONG,
    Decision,
    Seat,
    as_asked,
    on_this_host,
    should_distribute,
    tokens_of,
)
from tests.rig.cluster import gateway_settings

SHORT = 20


def seat(name: str, **changed: Any) -> Seat:
    return Seat(
        **{
            "name": name,
            "local": name == "here",
            "in_flight": 0,
            "slots": 2,
            "warm": True,
            "gpu": 0,
            "speed": None,
            **changed,
        }
    )


def decided(*seats: Seat, tokens: int = SHORT) -> Decision:
    return should_distribute(tokens, seats)


def test_a_short_prompt_stays_on_the_gateways_host_while_that_is_free() -> None:
    found = decided(seat("here"), seat("there", gpu=2))
    assert (found.mode, found.prefer) == ("local", frozenset({"here"}))
    assert "20 tokens" in found.reason


def test_a_busy_host_lets_others_answer() -> None:
    assert decided(seat("here", in_flight=2), seat("there")) == Decision(
        "distributed", "the engine on the gateway's host is busy"
    )


def test_a_model_that_another_has_in_memory_is_not_loaded_here_for_it() -> None:
    assert decided(seat("here", warm=False), seat("there")).mode == "distributed"
    assert decided(seat("here", warm=False), seat("there", in_flight=2)).mode == "local"
    assert decided(seat("here", warm=False), seat("there", warm=False)).mode == "local"


def test_a_long_prompt_goes_to_those_with_the_most_cards() -> None:
    found = decided(
        seat("here"), seat("there", gpu=1), seat("far", gpu=2), seat("busy", gpu=2, in_flight=2), tokens=LONG
    )
    assert (found.mode, found.prefer) == ("distributed", frozenset({"far"}))
    assert "most GPUs" in found.reason


def test_what_was_measured_says_more_than_cards() -> None:
    seats = (seat("here", speed=50.0), seat("there", gpu=1, speed=20.0), seat("far", speed=48.0))
    found = decided(*seats, tokens=LONG)
    assert (found.mode, found.prefer) == ("distributed", frozenset({"here", "far"}))
    assert decided(seat("here", speed=50.0), seat("there", speed=20.0), tokens=LONG).mode == "local"


def test_a_long_prompt_among_equals_is_for_the_policy() -> None:
    found = decided(seat("here"), seat("there"), tokens=LONG)
    assert (found.mode, found.prefer) == ("distributed", frozenset())


def test_without_an_engine_here_or_without_another_there_is_no_choice() -> None:
    assert decided(seat("there")).mode == "distributed"
    assert decided(seat("here", in_flight=9), tokens=LONG).mode == "local"
    assert decided().mode == "distributed"


def test_what_a_client_asks_for_is_done_or_refused() -> None:
    assert as_asked("distributed", [seat("here")]) == Decision("distributed", "asked for")
    assert as_asked("local", [seat("here"), seat("there")]) == Decision("local", "asked for", frozenset({"here"}))
    assert as_asked("local", [seat("there")]) is None


@given(
    st.integers(0, 4000),
    st.lists(
        st.builds(
            Seat,
            name=st.sampled_from("abcdef"),
            local=st.booleans(),
            in_flight=st.integers(0, 4),
            slots=st.integers(0, 3),
            warm=st.booleans(),
            gpu=st.integers(0, 4),
            speed=st.none() | st.floats(0.1, 500),
        ),
        unique_by=lambda s: s.name,
    ),
)
def test_whoever_is_meant_can_answer_and_there_is_always_a_reason(tokens: int, seats: list[Seat]) -> None:
    found = should_distribute(tokens, seats)
    assert found.prefer <= {s.name for s in seats}
    assert found.reason
    if found.mode == "local":
        assert found.prefer
        assert found.prefer <= {s.name for s in seats if s.local}


@pytest.mark.parametrize(("characters", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2)])
def test_a_prompts_length_is_reckoned_in_tokens(characters: int, tokens: int) -> None:
    assert tokens_of(characters) == tokens


def test_a_worker_is_here_where_its_address_is_the_schedulers_or_loopback() -> None:
    urls = {"same": "https://head.cluster.ai:11443", "other": "https://w2:11443", "own": "http://127.0.0.1:1"}
    here = on_this_host(gateway_settings(scheduler="tls://head.cluster.ai:8786"))
    assert {name for name, url in urls.items() if here(url)} == {"same", "own"}
