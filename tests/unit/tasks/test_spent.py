from __future__ import annotations

from typing import Any

import pytest

from cluster_ai.tasks.journal import Journal, Spent
from cluster_ai.tasks.model import Task, spec_of
from cluster_ai.tasks.outcomes import outcome
from cluster_ai.tasks.spent import Spendings, spent


def taken(journal: Journal) -> Task:
    spec = spec_of({"kind": "ai_inference", "payload": {"model": "m", "prompt": "Hi"}})
    journal.add("ada", [spec], [None])
    (task,) = journal.take(1)
    return task


@pytest.mark.parametrize(
    ("result", "tokens"),
    [
        ({"response": "x", "prompt_eval_count": 3, "eval_count": 5}, (3, 5)),
        ({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10}}, (4, 6)),
        ({"embeddings": [], "prompt_eval_count": 2}, (2, 0)),
        ({"choices": []}, (0, 0)),
    ],
)
def test_tokens_are_as_the_engine_tells_them(result: dict[str, Any], tokens: tuple[int, int]) -> None:
    found = spent(taken(Journal(None)), {"result": result, "seconds": 1.5})
    assert found == Spent("m:latest", *tokens, 1.5)


def test_each_task_counts_once_and_is_there_until_it_was_taken() -> None:
    journal = Journal(None, lambda: 100.0)
    task, ledger = taken(journal), Spendings(journal)
    ended = outcome(task, {"result": {"eval_count": 5}, "seconds": 1.0, "worker": "w1"})
    journal.end([ended])
    journal.end([ended])  # as when a connection broke, and it came again
    ((number, *row),) = ledger.after(0)
    assert row == [100.0, "ada", "m:latest", 0, 5, 1.0]
    assert len(ledger.after(0)) == 1
    assert ledger.after(number) == []
    assert ledger.after(0) == []


def test_what_asked_no_engine_or_failed_used_nothing() -> None:
    journal = Journal(None)
    task = taken(journal)
    assert spent(task, {"result": {"said": 1}}) is None
    journal.end([outcome(task, {"error": "no", "final": True})])
    assert Spendings(journal).after(0) == []


def test_a_journal_that_is_begun_anew_counts_on_above_the_one_before() -> None:
    journal = Journal(None)
    journal.end([outcome(taken(journal), {"result": {}, "seconds": 1.0})])
    assert Spendings(journal).after(0)[0][0] > 170_000_000_000_000
