"""So much in a minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.admission.rates import Bucket


def test_a_minutes_worth_may_go_at_once_and_comes_back_evenly() -> None:
    bucket = Bucket(60, 0.0)
    for _ in range(60):
        assert not bucket.wait(1, 0.0)
        bucket.take(1, 0.0)
    assert bucket.wait(1, 0.0) == pytest.approx(1.0)
    assert bucket.wait(1, 0.5) == pytest.approx(0.5)
    assert not bucket.wait(1, 1.0)


def test_an_answer_that_took_more_than_was_left_is_paid_back() -> None:
    bucket = Bucket(600, 0.0)
    bucket.take(1200, 0.0)
    assert bucket.wait(1, 0.0) == pytest.approx(60.1)
    assert bucket.refill(0.0) == pytest.approx(120)


def test_a_clock_that_goes_backwards_gives_nothing() -> None:
    bucket = Bucket(60, 100.0)
    bucket.take(60, 100.0)
    assert bucket.left(50.0) == 0


@given(st.integers(1, 12), st.lists(st.floats(0, 30), max_size=20))
def test_never_more_than_two_minutes_worth_in_any_minute(per_minute: int, steps: list[float]) -> None:
    """A minute's worth that was saved, and what comes in meanwhile."""
    now, taken = 0.0, []
    bucket = Bucket(per_minute, now)
    for step in steps:
        now += step
        while not bucket.wait(1, now):
            bucket.take(1, now)
            taken.append(now)
    for start in taken:
        assert sum(start <= at < start + 60 for at in taken) <= 2 * per_minute


@given(st.integers(1, 1000), st.floats(0, 5000), st.floats(0, 1000))
def test_after_the_wait_that_it_told_there_is_enough(per_minute: int, taken: float, amount: float) -> None:
    bucket = Bucket(per_minute, 0.0)
    bucket.take(taken, 0.0)
    wait = bucket.wait(amount, 0.0)
    assert bucket.wait(amount, wait) == pytest.approx(0, abs=1e-6)
