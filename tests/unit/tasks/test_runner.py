from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.tasks import __main__ as manager
from cluster_ai.tasks.batches.file import File
from cluster_ai.tasks.batches.files import Files
from cluster_ai.tasks.batches.runner import Runner
from cluster_ai.tasks.batches.store import KEPT, WINDOW, Batch, Stage, Store
from cluster_ai.tasks.dispatcher import Dispatcher
from cluster_ai.tasks.journal import Journal, Outcome
from cluster_ai.tasks.model import Spec, State
from cluster_ai.tasks.results import Results

CHAT = "/v1/chat/completions"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Here:
    clock: Clock
    journal: Journal
    store: Store
    files: Files
    runner: Runner
    dispatcher: Dispatcher

    def begin(self, *ids: str) -> Batch:
        with self.files.writing() as writing:
            for custom_id in ids:
                asked = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "m", "messages": []}}
                writing.write(json.dumps(asked).encode() + b"\n")
            file = writing.finish("ada", "in.jsonl", "batch", self.clock())
        self.store.add_file(file)
        made = self.store.add_batch("ada", None, CHAT, file.id, None, None)
        self.runner.wake()
        return made

    async def becomes(self, batch: Batch, stage: Stage) -> Batch:
        async with asyncio.timeout(60):
            while (found := self.found(batch)).stage is not stage:  # noqa: ASYNC110 (the database tells of no change)
                await asyncio.sleep(0.01)
        return found

    def found(self, batch: Batch) -> Batch:
        found = self.store.batch(batch.id)
        assert found is not None
        return found

    def lines(self, file_id: str | None) -> list[Any]:
        file = self.store.file(file_id or "")
        assert file is not None
        return [json.loads(line) for line in self.files.path(file).read_text().splitlines()]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    """A task manager's batches, with no Dask: tasks end as the test says."""
    clock = Clock()
    journal = Journal(None, clock)
    ignore: Callable[[str], None] = lambda reason: None  # noqa: E731
    store, files = Store(journal), Files(tmp_path / "files")
    dispatcher = Dispatcher("tls://127.0.0.1:1", None, (), journal, Results(store, files), ignore)
    runner = Runner(journal, store, files, dispatcher)
    running = asyncio.create_task(runner.run())
    yield Here(clock, journal, store, files, runner, dispatcher)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    journal.close()


async def test_a_batch_ends_with_answers_and_faults_in_files_of_their_own(here: Here) -> None:
    batch = await here.becomes(here.begin("c", "a", "b"), Stage.IN_PROGRESS)
    first, second, third = here.journal.take(3)
    here.journal.end([Outcome(third.id, State.DONE, "w1", result=3), Outcome(first.id, State.DONE, "w1", result=1)])
    here.journal.end([Outcome(second.id, State.FAILED, "w1", error="no")])
    ended = await here.becomes(batch, Stage.COMPLETED)
    assert (ended.total, ended.counts) == (3, (2, 1))
    assert [(it["custom_id"], it["response"]["body"]) for it in here.lines(ended.output)] == [("c", 1), ("b", 3)]
    assert [it["error"]["message"] for it in here.lines(ended.errors)] == ["no"]


async def test_what_isnt_answered_in_time_is_told_and_never_runs(here: Here) -> None:
    batch = await here.becomes(here.begin("a", "b"), Stage.IN_PROGRESS)
    (first,) = here.journal.take(1)
    here.journal.end([Outcome(first.id, State.DONE, "w1", result=1)])
    here.clock.now += WINDOW + 1
    ended = await here.becomes(batch, Stage.EXPIRED)
    assert [it["custom_id"] for it in here.lines(ended.output)] == ["a"]
    assert [(it["custom_id"], it["error"]["code"]) for it in here.lines(ended.errors)] == [("b", "batch_expired")]
    assert here.journal.take(10) == []


async def test_what_can_not_be_forgotten_on_a_full_disk_is_forgotten_later(
    here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager, "TIDY", 0.01)
    (over,) = here.journal.add("ada", [Spec("custom", {"function": "f"})], [None])
    here.journal.cancel(over)
    here.clock.now += manager.KEPT + 1
    forget, full = here.journal.forget, sqlite3.OperationalError("database or disk is full")

    def failing(older: float) -> int:
        monkeypatch.setattr(here.journal, "forget", forget)
        raise full

    monkeypatch.setattr(here.journal, "forget", failing)
    tidying = asyncio.create_task(manager.tidy(here.journal, here.dispatcher, here.runner))
    async with asyncio.timeout(30):
        while here.journal.get(over) is not None:  # noqa: ASYNC110 (the database tells of no change)
            await asyncio.sleep(0.01)
    tidying.cancel()
    with suppress(asyncio.CancelledError):
        await tidying
    assert "what is over can't be forgotten: database or disk is full" in caplog.text


async def test_what_nobody_keeps_any_longer_goes(here: Here) -> None:
    batch = here.begin("a")
    await here.becomes(batch, Stage.IN_PROGRESS)
    here.store.turn(batch.id, Stage.CANCELLING, of=(Stage.IN_PROGRESS,))
    await here.becomes(batch, Stage.CANCELLED)
    file = here.store.file(batch.input)
    assert isinstance(file, File)
    here.clock.now += KEPT + WINDOW + 1
    await here.runner.tidy()
    assert here.store.file(batch.input) is None
    assert not here.files.path(file).exists()
    assert here.store.batch(batch.id) is None
