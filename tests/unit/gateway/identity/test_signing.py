"""Signing keys change by themselves, and no token is refused by it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.identity.signing import AFTER, AHEAD, SIGNS, SigningKey, generate, plan, signing
from cluster_ai.gateway.identity.tokens import LIFE

HOUR = 3600.0


def turned(keys: list[SigningKey], now: float) -> list[SigningKey]:
    due = plan(keys, now)
    left = [key for key in keys if key.kid not in due.drop]
    return left if due.make is None else [*left, generate(due.make)]


def test_the_first_key_signs_at_once() -> None:
    (key,) = turned([], 1000.0)
    assert signing([key], 1000.0) == key


@given(st.floats(HOUR / 4, AHEAD / 2))
def test_a_key_is_known_a_day_before_it_signs_and_until_its_last_token_has_ended(step: float) -> None:
    keys, now = turned([], 0.0), 0.0
    known_since: dict[str, float] = {keys[0].kid: float("-inf")}
    last_signed: dict[str, float] = {}
    while now < 2.5 * SIGNS:
        now += step
        keys = turned(keys, now)
        for key in keys:
            known_since.setdefault(key.kid, now)
        current = signing(keys, now)
        assert current is not None
        assert now - known_since[current.kid] >= AHEAD / 2
        last_signed[current.kid] = now
        for kid, when in last_signed.items():
            if now < when + LIFE:
                assert kid in {key.kid for key in keys}
        assert len(keys) <= 3
    assert len(last_signed) == 3
    assert AFTER > LIFE


def test_a_clock_that_went_back_finds_a_key_all_the_same() -> None:
    keys = turned(turned([], 1e6), 10.0)
    assert signing(keys, 10.0) is not None
