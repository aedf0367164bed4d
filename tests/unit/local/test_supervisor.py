from __future__ import annotations

from cluster_ai.local.model import Event
from cluster_ai.local.supervisor import backoff


def test_pauses_double_up_to_half_a_minute() -> None:
    assert [backoff(deaths) for deaths in (1, 2, 3, 7, 8, 1000)] == [0.25, 0.5, 1.0, 16.0, 30.0, 30.0]


def test_an_event_reads_back_as_it_was_told() -> None:
    event = Event("failed", "gateway", 1.5, "ended\nsee above", ("one", "two"))
    assert Event.parse(event.line()) == event
