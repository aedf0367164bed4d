from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import units

THIN = "\N{NARROW NO-BREAK SPACE}"
NUMBERS = st.floats(min_value=0, max_value=1e15, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0421, "0.042"),
        (1.5, "1.5"),
        (27.349, "27.3"),
        (99.96, "100"),
        (1204.4, f"1{THIN}204"),
        (100, "100"),
    ],
)
def test_a_number_has_three_significant_digits_at_most(value: float, text: str) -> None:
    assert units.significant(value) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.rate(2.5), "2.5 /s"),
        (units.share(0.123), "12 %"),
        (units.share(0.0123), "1.2 %"),
        (units.share(0), "0 %"),
        (units.seconds(0.0415), "42 ms"),
        (units.seconds(1.25), "1.25 s"),
        (units.gib(8 * units.GIB), "8 GiB"),
        (units.gib(98_000_000), "93 MiB"),
        (units.of_gib(8 * units.GIB, 32 * units.GIB), "8.0 of 32.0 GiB"),
        (units.of_gib(8 * units.GIB, None), "8 GiB"),
        (units.of_gib(None, 32 * units.GIB), None),
        (units.age(3.2), "3 s old"),
        (units.age(200), "3 min old"),
        (units.age(-1), "0 s old"),
        (units.age(3 * 86400), "3 days old"),
        (units.age(None), "of unknown age"),
    ],
)
def test_each_unit_is_written_one_way(text: str | None, expected: str | None) -> None:
    assert text == expected


@pytest.mark.parametrize("write", [units.count, units.rate, units.share, units.seconds, units.gib])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_known_is_a_dash(write: object, value: float | None) -> None:
    assert callable(write)
    assert write(value) == units.NOTHING


@given(NUMBERS)
def test_no_number_is_written_with_an_exponent(value: float) -> None:
    for text in (units.significant(value), units.seconds(value), units.share(value), units.gib(value)):
        assert "e" not in text.removesuffix(" GiB").removesuffix(" MiB").removesuffix(" s")


@given(NUMBERS.filter(lambda v: v >= 0.1))
def test_what_is_written_is_near_what_is_meant(value: float) -> None:
    assert float(units.significant(value).replace(THIN, "")) == pytest.approx(value, rel=0.01)
