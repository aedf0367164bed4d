"""Guessing passwords gets slow, for the one who guesses."""

from __future__ import annotations

import pytest

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.identity.throttle import FREE, Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def wait(throttle: Throttle, account: str = "anna", address: str = "192.0.2.1") -> int:
    try:
        throttle.must_wait(account, address)
    except Refusal as refusal:
        return int(dict(refusal.headers)[b"retry-after"])
    return 0


def test_some_failures_are_free_and_then_each_doubles_the_wait() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    waits = []
    for _ in range(FREE + 6):
        throttle.failed("anna", "192.0.2.1")
        waits.append(wait(throttle))
        clock.now += waits[-1]
        assert wait(throttle) == 0
    assert waits == [0] * (FREE - 1) + [1, 2, 4, 8, 16, 32, 64]


def test_others_are_not_made_to_wait() -> None:
    throttle = Throttle(Clock())
    for _ in range(FREE + 3):
        throttle.failed("anna", "192.0.2.1")
    assert wait(throttle)
    assert wait(throttle, account="ben") == 0
    assert wait(throttle, address="192.0.2.2") == 0


def test_many_accounts_from_one_address_count_together() -> None:
    throttle = Throttle(Clock())
    for number in range(30):
        throttle.failed(f"user{number}", "192.0.2.1")
    assert wait(throttle, account="nobody yet") > 60


def test_many_addresses_at_one_account_lock_it_for_a_minute_at_most() -> None:
    throttle = Throttle(Clock())
    for number in range(200):
        throttle.failed("anna", f"192.0.2.{number}")
    assert 0 < wait(throttle, address="198.51.100.1") <= 60


def test_a_good_login_forgets_ones_own_failures() -> None:
    throttle = Throttle(Clock())
    for _ in range(FREE):
        throttle.failed("anna", "192.0.2.1")
    throttle.succeeded("anna", "192.0.2.1")
    assert wait(throttle) == 0


def test_any_number_of_good_logins_is_no_failure() -> None:
    throttle = Throttle(Clock())
    for _ in range(100):
        throttle.failed("anna", "192.0.2.1")
        throttle.succeeded("anna", "192.0.2.1")
    assert wait(throttle) == 0


def test_an_hour_later_all_is_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(40):
        throttle.failed("anna", "192.0.2.1")
    clock.now = 3601
    assert wait(throttle) == 0


@pytest.mark.parametrize("count", [20_000])
def test_any_number_of_accounts_takes_little_memory(count: int) -> None:
    throttle = Throttle(Clock())
    for number in range(count):
        throttle.failed(f"user{number}", f"2001:db8::{number:x}")
    assert len(throttle._known) < 10_000
