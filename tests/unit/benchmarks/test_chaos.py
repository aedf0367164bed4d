from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.chaos import DISTURBANCES, chosen, judge


def lines(*ids: str) -> list[dict[str, object]]:
    return [{"custom_id": it} for it in ids]


def test_each_answered_once_holds() -> None:
    assert judge(["a", "b"], lines("b", "a"), []).held


@pytest.mark.parametrize(
    ("answers", "errors", "what"),
    [
        (("a",), (), "missing"),
        (("a", "b", "b"), (), "twice"),
        (("a", "b", "c"), (), "strange"),
        (("a",), ("b",), "failed"),
    ],
)
def test_what_is_lost_doubled_or_strange_does_not(answers: tuple[str, ...], errors: tuple[str, ...], what: str) -> None:
    verdict = judge(["a", "b"], lines(*answers), lines(*errors))
    assert not verdict.held
    assert getattr(verdict, what)


@given(st.integers())
def test_the_same_seed_does_the_same_and_each_disturbance_comes(seed: int) -> None:
    first = list(islice(chosen(seed), 40))
    assert first == list(islice(chosen(seed), 40))
    assert {it.name for it, _ in first[: len(DISTURBANCES)]} == {it.name for it in DISTURBANCES}
    assert all(host in it.hosts for it, host in first)
