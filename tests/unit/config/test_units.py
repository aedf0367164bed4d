from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.config.units import format_duration, parse_duration
from cluster_ai.sizes import counted, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32GB", 32 * 10**9),
        ("8GiB", 8 * 2**30),
        ("1.5 TB", 1_500_000_000_000),
        ("500MB", 5 * 10**8),
        ("7B", 7),
        ("2kB", 2000),
    ],
)
def test_sizes_are_decimal_or_binary_as_their_unit_says(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "32", "GB", "32 gigabytes", "-1GB", "1e3MB", "32G", "٣GB", "1GB 2GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@given(st.integers(0, 10**6), st.sampled_from(["B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]))
def test_whole_sizes_are_exact(number: int, unit: str) -> None:
    base = 1024 if "i" in unit else 1000
    assert parse_size(f"{number}{unit}") == number * base ** ["B", "K", "M", "G", "T"].index(unit[0].upper())


@given(st.integers(0, 10**14))
def test_a_formatted_size_reads_as_nearly_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.006, abs=1)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("5m", 300), ("2h", 7200), ("15d", 1_296_000), ("1h30m", 5400)]
)
def test_durations_add_their_parts(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "5 minutes", "-1s", "1h30"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.integers(0, 10**10).map(lambda ms: ms / 1000))
def test_a_formatted_duration_reads_as_the_same(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(("number", "said"), [(0, "0 tasks"), (1, "1 task"), (2, "2 tasks")])
def test_one_of_a_thing_has_no_plural(number: int, said: str) -> None:
    assert counted(number, "task") == said
