"""How quick a worker is held to be."""

from __future__ import annotations

import pytest

from cluster_ai.gateway.speeds import STALE, Speeds


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_stated_holds_until_answers_tell_and_again_when_they_are_old() -> None:
    clock = Clock()
    speeds = Speeds({"m": 50.0}, clock)
    assert (speeds.get("m"), speeds.get("other"), speeds.all()) == (50.0, None, {"m": 50.0})
    speeds.add("m", 100.0)
    assert speeds.get("m") == pytest.approx(60)
    clock.now = STALE
    assert speeds.get("m") == 50.0
    speeds.add("m", 20.0)
    assert speeds.get("m") == pytest.approx(44)


def test_a_slow_hour_is_not_held_against_a_worker_for_ever() -> None:
    clock = Clock()
    speeds = Speeds({}, clock)
    speeds.add("m", 1.0)
    assert speeds.get("m") == 1.0
    clock.now = STALE
    assert speeds.get("m") is None
    assert speeds.all() == {}
    speeds.add("m", 80.0)
    assert speeds.get("m") == 80.0


def test_another_engine_begins_with_what_is_stated() -> None:
    speeds = Speeds({"m": 50.0})
    speeds.add("m", 1.0)
    speeds.add("n", 1.0)
    speeds.forget()
    assert speeds.all() == {"m": 50.0}
