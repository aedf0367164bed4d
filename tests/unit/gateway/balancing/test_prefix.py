"""Two requests share as much of their chains as a model would read the same of both."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.balancing.prefix import BLOCK, LINKS, NOTHING, chain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["messages", "system", "tools", "prompt", "input", "context", "images", "template", "raw", "instructions", "role"]
)
PATHS = st.sampled_from(["/api/chat", "/api/generate", "/v1/chat/completions", "/v1/messages", "/v1/responses"])

FIRST = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
SECOND = [*FIRST, {"role": "assistant", "content": "Hi!"}, {"role": "user", "content": "And?"}]


def shared(a: dict[str, Any], b: dict[str, Any], path: str = "/api/chat", other: str = "") -> tuple[int, int, int]:
    """How many links they share, and have."""
    one, two = chain(path, "m", a).links, chain(other or path, "m", b).links
    same = next((n for n, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), min(len(one), len(two)))
    return same, len(one), len(two)


def test_a_later_turn_begins_with_all_of_the_earlier_one() -> None:
    assert shared({"messages": FIRST}, {"messages": SECOND}) == (2, 2, 4)


def test_openais_parts_say_the_same_as_a_text_and_so_does_another_api() -> None:
    parts = [FIRST[0], {"role": "user", "content": [{"type": "text", "text": "Hello"}]}, *SECOND[2:]]
    assert shared({"messages": FIRST}, {"messages": parts}, "/api/chat", "/v1/chat/completions") == (2, 2, 4)


def test_anthropics_system_prompt_and_tools_come_first() -> None:
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    one = {"system": "Be brief.", "messages": FIRST[1:]}
    assert shared(one, {**one, "messages": SECOND[1:]}, "/v1/messages") == (2, 2, 4)
    assert shared(one, {**one, "tools": tools}, "/v1/messages") == (1, 2, 3)
    assert shared({**one, "system": [{"type": "text", "text": "Be brief."}]}, one, "/v1/messages") == (2, 2, 2)


def test_a_prompt_is_cut_in_blocks_so_that_two_may_differ_in_their_ends() -> None:
    text = "x" * (3 * BLOCK)
    assert shared({"prompt": text + "one"}, {"prompt": text + "two"}, "/api/generate") == (3, 4, 4)
    assert shared({"prompt": text}, {"prompt": text, "system": "s"}, "/api/generate")[0] == 0


def test_the_context_that_generate_hands_back_is_followed_too() -> None:
    tokens = list(range(2000))
    same, first, _ = shared({"context": tokens[:512]}, {"context": tokens, "prompt": "And?"}, "/api/generate")
    assert same == first == 2


def test_models_roles_images_and_tool_calls_tell_requests_apart() -> None:
    body = {"messages": FIRST}
    assert not set(chain("/api/chat", "m", body).links) & set(chain("/api/chat", "n", body).links)
    (system, user) = FIRST
    for other in ({**user, "role": "tool"}, {**user, "images": ["aGk="]}, {**user, "tool_calls": [{"function": {}}]}):
        assert chain("/api/chat", "m", {"messages": [system, other]}).links != chain("/api/chat", "m", body).links
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in ("data:,a", "data:,b")]
    one, two = ({"messages": [{"role": "user", "content": [p]}]} for p in pictures)
    assert shared(one, two) == (0, 1, 1)


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings", "/v1/embeddings", "/api/show"])
def test_where_nothing_is_generated_there_is_nothing_to_find(path: str) -> None:
    assert chain(path, "m", {"input": "text", "prompt": "text"}) == NOTHING


@given(PATHS, st.dictionaries(KEYS, JSON))
def test_any_body_has_a_chain_that_is_bounded_and_grows(path: str, body: dict[str, Any]) -> None:
    found = chain(path, "m", body)
    assert len(found.links) == len(found.ends) <= LINKS
    assert sorted(found.ends) == list(found.ends)
    assert found == chain(path, "m", body)


@given(st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text()})), JSON)
def test_whatever_is_said_next_the_chain_so_far_stays(messages: list[dict[str, str]], content: Any) -> None:
    body, more = {"messages": messages}, {"messages": [*messages, {"role": "user", "content": content}]}
    same, before, after = shared(body, more)
    assert same == before <= after


def test_nonsense_that_is_nested_deeply_has_no_chain() -> None:
    nested: Any = "x"
    for _ in range(5000):
        nested = {"image": [nested]}
    assert chain("/api/chat", "m", {"messages": [{"role": "user", "content": [nested]}]}) == NOTHING


def test_a_very_long_conversation_costs_no_more_than_its_beginning() -> None:
    messages = [{"role": "user", "content": "x" * 50_000}] * 100
    assert len(chain("/api/chat", "m", {"messages": messages}).links) == LINKS
