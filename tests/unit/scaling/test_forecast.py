from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.scaling.forecast import DAY, fit

STEP = 300.0
START = 20_006 * DAY  # a Monday, as far as `office` is concerned


def office(at: float) -> float:
    """Requests at once: next to none at night, eight from nine to five, less at the weekend."""
    hour, weekday = at % DAY / 3600, int(at // DAY) % 7
    share = 1 / (1 + math.exp(-(hour - 8.5) * 3)) * 1 / (1 + math.exp((hour - 17.5) * 3))
    return 8 * share * (0.2 if weekday >= 5 else 1.0)


def history(days: float, noise: float = 0.0) -> tuple[list[float], list[float]]:
    times = [START + i * STEP for i in range(int(days * DAY / STEP))]
    chance = random.Random(1)
    return times, [max(0.0, office(t) + chance.gauss(0, noise)) for t in times]


def test_with_less_than_two_days_nobody_can_tell() -> None:
    assert fit(*history(1.9)) is None
    assert fit([], []) is None


def test_the_morning_is_foreseen_from_the_mornings_before() -> None:
    found = fit(*history(5, noise=0.5))
    assert found is not None
    midnight = START + 5 * DAY
    assert found.most(midnight + 8.3 * 3600, 1800) > 4
    assert found.most(midnight + 3 * 3600, 1800) < 1.5
    for hour in (11, 13, 15):
        assert found.at([midnight + hour * 3600])[0] == pytest.approx(8, abs=1.5)


def test_a_week_has_its_shape_once_two_of_them_are_known() -> None:
    found = fit(*history(15))
    assert found is not None
    noons = [START + (15 + day) * DAY + DAY / 2 for day in range(7)]
    told, true = found.at(noons), [office(noon) for noon in noons]
    assert [value > 4 for value in told] == [value > 4 for value in true]


def test_a_day_that_is_busier_than_others_is_taken_as_it_is() -> None:
    times, values = history(4.55)  # to a quarter past one
    busy = [v + 4 * (t >= times[-1] - 3600) for t, v in zip(times, values, strict=True)]
    usual, today = fit(times, values), fit(times, busy)
    assert usual is not None
    assert today is not None
    soon = times[-1] + 300
    assert today.at([soon])[0] > usual.at([soon])[0] + 2


@given(st.lists(st.floats(0, 1e6), min_size=100, max_size=100), st.floats(0, 30 * DAY))
def test_whatever_was_the_forecast_is_a_number_and_not_below_nothing(values: list[float], later: float) -> None:
    found = fit([i * DAY / 20 for i in range(100)], values)
    assert found is not None
    (value,) = found.at([5 * DAY + later])
    assert math.isfinite(value)
    assert value >= 0
