"""When a worker is asked, and when it is left alone: the breaker, the pace of its streams, its cards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.failover import breaker, pace, processor
from cluster_ai.gateway.failover.breaker import CLOSED, Breaker, State


def tripped(now: float = 0.0) -> Breaker:
    it = CLOSED
    for _ in range(breaker.FAULTS):
        it = it.failed(now, "it answered 500")
    return it


def test_faults_in_a_row_open_it_and_an_answer_between_them_does_not() -> None:
    assert tripped().state(0) is State.OPEN
    it = CLOSED.failed(0, "x").failed(1, "x").answered(2)
    assert it is CLOSED
    assert it.failed(3, "x").state(3) is State.CLOSED


def test_faults_that_are_far_apart_do_not_open_it() -> None:
    it = CLOSED
    for n in range(10):
        it = it.failed(n * (breaker.WINDOW + 1), "x")
    assert it.state(1000) is State.CLOSED


def test_after_a_pause_one_request_tries_it() -> None:
    it, now = tripped(), breaker.PAUSE
    assert not it.admits(now - 0.1)
    assert it.admits(now)
    it = it.sent(now)
    assert not it.admits(now)
    assert it.answered(now + 1) is CLOSED
    again = it.failed(now + 1, "x")
    assert not again.admits(now + 1 + breaker.PAUSE)
    assert again.admits(now + 1 + 2 * breaker.PAUSE)


def test_a_probe_that_tells_nothing_makes_place_for_another() -> None:
    it = tripped().sent(breaker.PAUSE)
    assert it.unsent().admits(breaker.PAUSE)
    assert it.admits(breaker.PAUSE + breaker.PROBE)


def test_what_was_under_way_when_it_opened_says_nothing() -> None:
    it = tripped()
    assert it.answered(1).state(1) is State.OPEN


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from(["failed", "answered", "sent", "unsent"])), max_size=50))
def test_it_never_stays_shut_for_longer_than_the_longest_pause_and_a_probe(steps: list[tuple[float, str]]) -> None:
    it, now = CLOSED, 0.0
    for passed, what in steps:
        now += passed
        match what:
            case "failed":
                it = it.failed(now, "x")
            case "answered":
                it = it.answered(now)
            case "sent":
                it = it.sent(now) if it.admits(now) else it
            case _:
                it = it.unsent()
    assert it.admits(now + breaker.LONGEST + breaker.PROBE)


def test_a_worker_that_is_back_gets_its_slots_one_after_the_other() -> None:
    assert breaker.room(1, 0, 0.1) == 1
    steps = [breaker.room(8, 0, breaker.RAMP * n / 4) for n in range(5)]
    assert steps == [1, 2, 4, 6, None]


def test_silence_is_judged_by_the_models_own_pace() -> None:
    it = pace.Pace()
    assert it.limit() == pace.FLOOR
    for _ in range(50):
        it.streamed(10, 0.5)
    assert it.limit() == pace.FLOOR
    slow = pace.Pace()
    slow.streamed(1, 2.0)
    assert slow.limit() == 40.0
    slow.paused(30.0)
    assert slow.limit() == 90.0


def test_a_pause_of_once_is_forgotten() -> None:
    it = pace.Pace()
    it.paused(60.0)
    for _ in range(2000):
        it.streamed(10, 0.5)
    assert it.limit() == pace.FLOOR


def test_a_first_token_may_take_longer_the_longer_the_prompt_the_queue_and_the_loading() -> None:
    it = pace.Pace()
    short = it.first_limit(100, loaded=True, ahead=1.0)
    assert it.first_limit(100_000, loaded=True, ahead=1.0) > short + 1000
    assert it.first_limit(100, loaded=True, ahead=4.0) == 4 * short
    assert it.first_limit(100, loaded=False, ahead=0.5) == short + pace.LOADING
    it.began(100.0)
    assert it.first_limit(100, loaded=True, ahead=1.0) > 300


def test_a_model_that_left_its_card_is_seen_by_its_memory() -> None:
    assert processor.fallen(100, 0) == "fell back to the CPU: 0 % of it is on the card"
    assert processor.fallen(100, 100) == ""
    assert processor.fallen(0, 0) == ""


def test_a_model_that_left_its_card_is_seen_by_its_speed_and_gets_another_chance() -> None:
    it, now = processor.Speed(), 1000.0
    for _ in range(20):
        it.add(100.0, now)
    for _ in range(processor.ANSWERS - 1):
        it.add(5.0, now)
    assert it.reason(now) == ""
    it.add(5.0, now)
    assert "100 tokens/s" in it.reason(now)
    later = now + processor.AGAIN
    assert it.reason(later) == ""
    for _ in range(processor.ANSWERS):
        it.add(5.0, later)
    assert it.reason(later + processor.AGAIN)
    better = later + 2 * processor.AGAIN
    it.add(90.0, better)
    for _ in range(processor.ANSWERS - 1):
        it.add(5.0, better)
    assert it.reason(better) == ""


def test_answers_that_a_busy_card_slows_down_raise_no_doubt() -> None:
    it = processor.Speed()
    for speed in [100.0] * 20 + [25.0] * 50:
        it.add(speed, 0.0)
    assert it.reason(0.0) == ""
