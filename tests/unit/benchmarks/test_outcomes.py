from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.outcomes import (
    FAULTS,
    UPDATES,
    Fault,
    Outcome,
    Sample,
    Update,
    between,
    fault_row,
    parse,
    percentile,
    summarize,
    table,
    update_row,
)


def sample(start: float, end: float, kind: str = "short", outcome: Outcome = "ok", detail: str = "") -> Sample:
    return Sample(start, end, kind, "h2", outcome, detail)


numbers = st.floats(allow_nan=False, allow_infinity=False)
samples = st.builds(
    Sample,
    start=numbers,
    end=numbers,
    kind=st.sampled_from(["short", "chat", "openai"]),
    worker=st.text(),
    outcome=st.sampled_from(["ok", "failed", "broken"]),
    detail=st.text(),
    first=st.none() | numbers,
)


@given(st.lists(samples))
def test_what_is_noted_of_requests_is_read_back_as_it_was(given: list[Sample]) -> None:
    assert parse(it.line() for it in given) == given


@given(st.lists(st.integers(), min_size=1), st.floats(min_value=0.01, max_value=1))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values: list[int], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values) + 1e-6


def test_no_values_have_no_percentile() -> None:
    assert math.isnan(percentile([], 0.5))


def test_a_summary_counts_failed_requests_and_broken_streams_apart_and_gives_their_reasons() -> None:
    told = summarize(
        [
            sample(0, 1),
            sample(0, 3),
            sample(0, 9, outcome="failed", detail="refused"),
            sample(0, 8, "chat"),
            sample(0, 9, "chat", "broken", "cut"),
            sample(0, 9, "openai", "broken", "cut"),
        ]
    )
    assert (told.requests, told.failed, told.streams, told.broken) == (6, 1, 3, 2)
    assert (told.p50, told.p99) == (1, 3)
    assert told.reasons == (("broken: cut", 2), ("failed: refused", 1))
    assert not told.clean


def test_a_request_belongs_to_an_update_when_any_moment_of_both_is_the_same() -> None:
    early, into, inside, across, late = (
        sample(0, 1),
        sample(1, 3),
        sample(3, 4),
        sample(1, 9),
        sample(8, 9),
    )
    assert between([early, into, inside, across, late], 2, 5) == [into, inside, across]


def test_an_updates_row_has_latencies_before_and_during_it() -> None:
    ran = (sample(0, 0.25), sample(2, 2.5), sample(2, 4, "chat", "broken", "cut"))
    assert update_row(Update("rolling", 1, 11, 0, ran)) == ["rolling", *"3011", "10 s", "250 / 250", "500 / 500"]
    assert update_row(Update("canary", 1, 4, 4, ())) == ["canary (exit 4)", *"0000", "3 s", "- / -", "- / -"]
    assert len(update_row(Update("canary", 1, 4, 4, ()))) == len(UPDATES)


@pytest.mark.parametrize(("held", "word"), [(True, "yes"), (False, "**no**")])
def test_a_faults_row_says_whether_it_was_held(held: bool, word: str) -> None:
    row = fault_row(Fault("power cut", "in the switch", "back", held, 12.4, summarize([])))
    assert row == ["power cut", "in the switch", "back", *"000", "12 s", word]
    assert len(row) == len(FAULTS)


def test_a_cell_of_a_table_ends_neither_the_cell_nor_the_line() -> None:
    assert table(["a", "b"], [["1|2", "3\n4"]]).splitlines() == ["| a | b |", "| --- | --- |", "| 1\\|2 | 3 4 |"]
