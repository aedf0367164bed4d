from __future__ import annotations

import threading

import pytest

from cluster_ai.cluster import means
from cluster_ai.cluster.means import Cards


def test_a_card_is_one_tasks_at_a_time() -> None:
    cards = Cards(("GPU-a", "GPU-b", "GPU-c"))
    with cards.taking(2) as first, cards.taking(1) as second:
        assert {*first, *second} == {"GPU-a", "GPU-b", "GPU-c"}
    with cards.taking(0) as none, cards.taking(3) as all_:
        assert (none, all_) == ((), ("GPU-a", "GPU-b", "GPU-c"))


def test_a_task_waits_for_a_card_that_another_still_has() -> None:
    cards, given = Cards(("GPU-a",)), list[tuple[str, ...]]()

    def take() -> None:
        with cards.taking(1) as found:
            given.append(found)

    thread = threading.Thread(target=take)
    with cards.taking(1):
        thread.start()
        assert not given
    thread.join(60)
    assert given == [("GPU-a",)]


def test_cards_come_and_go_and_whoever_has_one_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(means, "WAIT", 0.01)
    cards = Cards(("GPU-a", "GPU-b"))
    with cards.taking(1) as first:
        cards.become(("GPU-b",))
        with (
            cards.taking(1) as second,
            pytest.raises(RuntimeError, match="only 0 of 1 cards are free"),
            cards.taking(1),
        ):
            pass
    assert (first, second, cards.all) == (("GPU-a",), ("GPU-b",), ("GPU-b",))
