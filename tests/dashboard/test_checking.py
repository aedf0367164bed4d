from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.checking import difference, problems

EXAMPLE = (Path(__file__).parents[2] / "cluster.yaml").read_text()


def test_the_example_is_of_the_right_form() -> None:
    assert problems(EXAMPLE) == []


@pytest.mark.parametrize(
    ("text", "line", "where", "word"),
    [
        ("version: '1.0'\ncluster: {name: x\n", 3, "", "no YAML"),
        ("version: '2.0'\n", 1, "version", "allowed: 1.0"),
        ("version: '1.0'\nclutser: {}\n", 1, "", "there is no key clutser here"),
        ("version: '1.0'\ncluster:\n  name: x\n  gateway:\n    port: many\n", 5, "cluster.gateway.port", "integer"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, where: str, word: str) -> None:
    found = problems(text)
    assert any(it.line == line and it.where == where and word in it.what for it in found), found


@pytest.mark.parametrize("text", ["[" * 5000, "version: &a [*a]\n", "cluster: &a {workers: [*a], models: [*a]}\n"])
def test_what_is_nested_without_end_is_told(text: str) -> None:
    assert problems(text)


@given(st.text(max_size=200))
def test_nothing_that_somebody_types_breaks_it(text: str) -> None:
    for it in problems(text):
        assert it.line >= 1
        assert it.what


def test_only_what_was_changed_is_in_the_difference() -> None:
    found = difference("a\nb\nc\n", "a\nB\nc\n")
    assert "-b" in found
    assert "+B" in found
    assert difference("a\n", "a\n") == ""
    assert difference("a\n", "b\n", ("monday", "friday")).startswith("--- monday\n+++ friday\n")
