from __future__ import annotations

import threading

from cluster_ai.tasks import turns
from cluster_ai.tasks.turns import Turns
from tests.rig.processes import until


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def begin(found: Turns, slots: int) -> threading.Thread:
    """A task that takes a slot and ends."""

    def run() -> None:
        with found.taking(slots):
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_a_task_waits_while_people_have_all_slots_and_begins_when_they_leave_one() -> None:
    found = Turns(Clock())
    found.people(2)
    task = begin(found, 2)
    until(lambda: found.waiting == 1)
    found.people(1)
    task.join(60)
    assert not task.is_alive()


def test_what_was_told_long_ago_keeps_nothing_waiting() -> None:
    clock = Clock()
    found = Turns(clock)
    found.people(1)
    task = begin(found, 1)
    until(lambda: found.waiting == 1)
    clock.now += turns.FRESH
    task.join(60)
    assert not task.is_alive()


def test_a_task_that_waited_long_begins_all_the_same() -> None:
    clock = Clock()
    found = Turns(clock)
    found.people(1)
    task = begin(found, 1)
    until(lambda: found.waiting == 1)
    clock.now += turns.PATIENCE
    found.people(1)
    task.join(60)
    assert not task.is_alive()
