from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.errors import ConfigError
from cluster_ai.tasks.batches.store import Store
from cluster_ai.tasks.journal import Journal, Outcome
from cluster_ai.tasks.model import Spec, State
from cluster_ai.tasks.spent import Spendings


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(clock: Clock) -> Iterator[Journal]:
    made = Journal(None, clock)
    yield made
    made.close()


def spec(priority: int = 0, **more: object) -> Spec:
    return Spec("custom", {"function": "f"}, priority=priority, **more)  # type: ignore[arg-type]


def test_what_is_taken_goes_by_priority_then_by_age(journal: Journal) -> None:
    ids = journal.add("ada", [spec(0), spec(5), spec(0), spec(5)], [None] * 4)
    taken = journal.take(3)
    assert [t.id for t in taken] == [ids[1], ids[3], ids[0]]
    assert {(t.state, t.attempt) for t in taken} == {(State.SENT, 1)}
    assert [t.id for t in journal.sent()] == [ids[0], ids[1], ids[3]]


def test_it_is_all_there_after_a_start(tmp_path: Path) -> None:
    first = Journal(tmp_path / "t.sqlite")
    one, two = first.add("ada", [spec(tags=("a",)), spec()], ["k", None])
    first.take(1)
    first.close()
    again = Journal(tmp_path / "t.sqlite")
    assert [t.id for t in again.sent()] == [one]
    assert [t.id for t in again.take(9)] == [two]
    assert again.add("ada", [spec()], ["k"]) == [one]
    found = again.get(one)
    assert found is not None
    assert found.spec == spec(tags=("a",))
    again.close()


def test_a_key_is_its_users_own(journal: Journal) -> None:
    (mine,) = journal.add("ada", [spec()], ["k"])
    assert journal.add("ada", [spec(9)], ["k"]) == [mine]
    assert journal.add("bob", [spec()], ["k"]) != [mine]


def test_an_attempt_that_came_to_nothing_is_taken_again_by_another_worker_perhaps(journal: Journal) -> None:
    (it,) = journal.add("ada", [spec()], [None])
    journal.take(1)
    journal.pin([(it, "w1")])
    assert next(journal.sent()).worker == "w1"
    journal.end([Outcome(it, State.QUEUED, error="the engine was away")])
    (again,) = journal.take(1)
    assert (again.attempt, again.worker, again.error) == (2, None, "the engine was away")


def test_what_was_cancelled_gets_no_worker(journal: Journal) -> None:
    first, second = journal.add("ada", [spec(), spec()], [None, None])
    journal.take(2)
    journal.cancel(first)
    assert journal.pin([(first, "w1"), (second, "w1")]) == {first}
    assert [(it.id, it.worker) for it in journal.sent()] == [(second, "w1")]
    found = journal.get(first)
    assert found is not None
    assert (found.state, found.worker) == (State.CANCELLED, None)


def test_what_ended_stays_as_it_was(journal: Journal) -> None:
    (it,) = journal.add("ada", [spec()], [None])
    journal.take(1)
    assert journal.cancel(it)
    journal.end([Outcome(it, State.DONE, "w1", result={"late": True})])
    assert not journal.cancel(it)
    found = journal.get(it)
    assert found is not None
    assert (found.state, found.result) == (State.CANCELLED, None)


def test_lists_are_by_user_state_and_tag(journal: Journal) -> None:
    one, two = journal.add("ada", [spec(tags=("x",)), spec(tags=("y",))], [None, None])
    (three,) = journal.add("bob", [spec(tags=("x",))], [None])
    journal.cancel(two)
    assert [t.id for t in journal.newest(user="ada")] == [two, one]
    assert [t.id for t in journal.newest(tag="x")] == [three, one]
    assert [t.id for t in journal.newest(state=State.CANCELLED)] == [two]
    assert [t.id for t in journal.newest(most=1)] == [three]
    assert journal.counts() == {
        State.QUEUED: 2,
        State.SENT: 0,
        State.DONE: 0,
        State.FAILED: 0,
        State.CANCELLED: 1,
    }


def test_what_ended_long_ago_is_forgotten(journal: Journal, clock: Clock) -> None:
    old, kept = journal.add("ada", [spec(), spec()], [None, None])
    journal.cancel(old)
    clock.now += 100
    assert journal.forget(50) == 1
    assert journal.get(old) is None
    assert journal.get(kept) is not None


def test_all_of_a_request_or_nothing_is_written(journal: Journal) -> None:
    with pytest.raises((sqlite3.Error, TypeError)):
        journal.add("ada", [spec(), Spec("custom", {"function": object()})], [None, None])
    assert journal.newest() == []


def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigError, match=r"t\.sqlite: .* format 99(.|\n)*apply the newer version again"):
        Journal(tmp_path / "t.sqlite")


@given(st.lists(st.sampled_from(["add", "take", "done", "fail", "again", "cancel"]), max_size=30))
def test_whatever_happens_every_task_is_in_exactly_one_state_and_none_is_sent_twice_at_once(steps: list[str]) -> None:
    journal, ids = Journal(None), list[str]()
    states = {"done": State.DONE, "fail": State.FAILED, "again": State.QUEUED}
    for step in steps:
        sent = {t.id for t in journal.sent()}
        if step == "add":
            ids += journal.add("ada", [spec()], [None])
        elif step == "take":
            assert not sent & {t.id for t in journal.take(1)}
        elif step == "cancel":
            for it in ids[-1:]:
                journal.cancel(it)
        else:
            journal.end([Outcome(it, states[step]) for it in sorted(sent)[:1]])
        assert sum(journal.counts().values()) == len(ids)
    journal.close()


def test_a_journal_of_before_batches_is_taken_on(tmp_path: Path) -> None:
    path = tmp_path / "tasks.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as before:
        before.executescript(
            "CREATE TABLE tasks (id TEXT PRIMARY KEY, user TEXT NOT NULL, key TEXT, spec TEXT NOT NULL,"
            " priority INTEGER NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL, submitted REAL NOT NULL,"
            " ended REAL, worker TEXT, error TEXT, result TEXT, number INTEGER NOT NULL) WITHOUT ROWID;"
            "INSERT INTO tasks VALUES ('task-1', 'ada', NULL,"
            """ '{"kind": "custom", "payload": {"function": "f"}, "tags": []}', 0, 'queued', 0, 1,"""
            " NULL, NULL, NULL, NULL, 1);"
            "PRAGMA user_version = 1;"
        )
    with contextlib.closing(Journal(path)) as now:
        now.add("ada", [spec()], [None])
        now.add_lines("ada", "batch_1", [(1, spec())])
        assert [task.id for task in now.take(1)] == ["task-1"]
        assert [line for line, _ in now.of_batch("batch_1", 0, 10)] == [1]
        assert len(now.newest()) == 2


def test_a_journal_of_before_the_account_is_taken_on(tmp_path: Path) -> None:
    path = tmp_path / "tasks.sqlite"
    with contextlib.closing(Journal(path)) as made:
        Store(made).add_batch("ada", None, "/v1/embeddings", "file-1", None, None)
    with contextlib.closing(sqlite3.connect(path)) as before:
        before.executescript(
            "ALTER TABLE batches DROP COLUMN models; ALTER TABLE tasks DROP COLUMN file; DROP TABLE spent;"
            "PRAGMA user_version = 2;"
        )
    with contextlib.closing(Journal(path)) as now:
        assert [batch.models for batch in Store(now).alive()] == [None]
        batch = Store(now).add_batch("ada", None, "/v1/embeddings", "file-1", None, ["m:latest"])
        assert batch.models == frozenset(("m:latest",))
        assert Spendings(now).after(0) == []
