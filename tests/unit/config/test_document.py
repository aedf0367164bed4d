from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_ai.config.document import key_path, read
from cluster_ai.errors import ConfigError, ErrorGroup

FILE = Path("cluster.yaml")


def test_every_key_and_value_has_its_place() -> None:
    document = read("a:\n  - b: 1\n    c: [x,\n      y]\n", FILE)
    assert document.data == {"a": [{"b": 1, "c": ["x", "y"]}]}
    assert document.keys["a", 0, "c"] == (3, 5)
    assert document.values["a", 0, "c", 1] == (4, 7)
    assert document.where(("a", 0, "c"), key=True) == "cluster.yaml:3:5"


def test_what_is_missing_is_placed_at_what_is_around_it() -> None:
    assert read("a:\n  b: 1\n", FILE).where(("a", "x", "y")) == "cluster.yaml:2:3"


def test_a_duplicate_key_is_told_with_both_lines() -> None:
    with pytest.raises(
        ConfigError, match=r"cluster.yaml:3:1: a: the key stands here a second time; the first is in line 1"
    ):
        read("a: 1\nb: 2\na: 3\n", FILE)


def test_all_duplicate_keys_are_told_at_once() -> None:
    with pytest.raises(ErrorGroup) as caught:
        read("a: {b: 1, b: 2}\na: 3\n", FILE)
    assert len(caught.value.errors) == 2


def test_what_is_merged_in_is_no_duplicate_and_gives_way() -> None:
    document = read("base: &b {x: 1, y: 2}\nown:\n  y: 3\n  <<: *b\n", FILE)
    assert document.data["own"] == {"y": 3, "x": 1}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1\nb: 2", "2:"),
        ("a: 'x", "1:"),
        ("\ta: 1", "1:"),
        ("a: 1\n--- \nb: 2", "2:"),
        ("a: *nowhere", "1:4"),
        ("a: 2026-13-45", "1:4"),
        ("a: !!python/object:x {}", "1:"),
        ("? [1]\n: 2", "1:3"),
        ("a: \x01", ""),
        ("a: &x [*x]", "1:4"),
        ("a: &x {<<: *x}", "1:"),
    ],
)
def test_what_is_no_plain_yaml_is_an_error_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text, FILE)
    assert str(caught.value).startswith(f"cluster.yaml:{place}" if place else "cluster.yaml")


def test_what_is_nested_or_multiplied_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cluster.yaml:1:\d+: not valid YAML: nested more than 50 levels deep"):
        read("a: " + "[" * 100_000, FILE)
    with pytest.raises(ConfigError, match="more than 100000 values, with what aliases repeat"):
        read("a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9)), FILE)


def test_merges_of_merges_are_refused_too() -> None:
    text = "x0: &x0 {a: 1}\n" + "".join(
        f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}]}}\n" for n in range(1, 20)
    )
    with pytest.raises(ConfigError, match="more than 100000 values"):
        read(text, FILE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a:\n\tb: 1", "cluster.yaml:2:1: not valid YAML: a tab stands here\n  -> indent with spaces"),
        ("a: 1\n\tb: 2", "cluster.yaml:2:1: not valid YAML: a tab stands here\n  -> indent with spaces"),
        ("a:\n  b: {c: 1\nd: 2", "that begins in line 2)\n  -> look above it too"),
        ("a: b: c", "-> put a text with ': ' in quotes"),
        ("a: @b", "-> put a text that begins so in quotes"),
    ],
)
def test_the_usual_slips_are_told_with_what_to_do(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text, FILE)
    assert told in str(caught.value)


def test_a_message_shows_the_beginning_of_a_long_value() -> None:
    with pytest.raises(ConfigError) as caught:
        read("a: 1" + "0" * 5000, FILE)
    assert len(str(caught.value)) < 500


def test_an_empty_file_says_nothing() -> None:
    assert read("# only a comment\n", FILE).data is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdef"), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(plain)
def test_data_is_what_yaml_reads(data: object) -> None:
    text = yaml.safe_dump(data)
    assert read(text, FILE).data == data


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_gives_data_or_an_error_of_ours(text: str) -> None:
    try:
        document = read(text, FILE)
    except (ConfigError, ErrorGroup):
        return
    assert () in document.values or document.data is None


def test_paths_are_written_as_people_write_them() -> None:
    assert key_path(("cluster", "workers", 0, "resources", "gpu")) == "cluster.workers[0].resources.gpu"
