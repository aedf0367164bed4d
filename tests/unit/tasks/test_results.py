from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from cluster_ai.tasks.batches.files import ROOM, Files
from cluster_ai.tasks.batches.store import Store
from cluster_ai.tasks.journal import Journal, Outcome
from cluster_ai.tasks.model import State, Task, spec_of
from cluster_ai.tasks.results import NoRoomError, Results, large

LARGE = {"result": None, "content": b'"large"', "name": "result.json"}


class Here:
    def __init__(self, folder: Path) -> None:
        self.journal = Journal(None)
        self.store, self.files = Store(self.journal), Files(folder / "files")
        self.results = Results(self.store, self.files)

    def task(self) -> Task:
        self.journal.add("ada", [spec_of({"kind": "custom", "payload": {"function": "f"}})], [None])
        (task,) = self.journal.take(1)
        return task


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_what_is_small_stays_in_the_journal_and_what_is_large_becomes_a_file_of_its_user(here: Here) -> None:
    task = here.task()
    assert not large({"result": {"a": 1}})
    assert large(LARGE)
    result, file = here.results.kept(task, LARGE, 1.0)
    assert result is None
    here.journal.end([Outcome(task.id, State.DONE, file=file)])
    found = here.journal.get(task.id)
    assert found is not None
    assert found.file == file.id
    assert [it.id for it in here.store.files("ada", "task_output", None, 10)] == [file.id]
    content = here.files.path(file).read_bytes()
    assert content == LARGE["content"]
    assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_of_a_task_that_was_cancelled_meanwhile_is_nobodys_and_goes(here: Here) -> None:
    task = here.task()
    _, file = here.results.kept(task, LARGE, 1.0)
    here.journal.cancel(task.id)
    here.journal.end([Outcome(task.id, State.DONE, file=file)])
    assert here.store.files("ada", None, None, 10) == []
    here.files.keep(here.store.ids())
    assert not here.files.path(file).exists()


def test_a_full_disk_is_told(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, ROOM + 5))
    with pytest.raises(NoRoomError, match="no room on the head host's disk"):
        here.results.kept(here.task(), LARGE, 1.0)
