"""What the engines did for tasks, until the gateway has it in its account of users.

Written with the end of each task, so that each counts once; forgotten when the gateway says up to where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster_ai.engine.client import canonical
from cluster_ai.tasks.journal import Journal, Spent
from cluster_ai.tasks.model import Task

MOST = 5000  # tasks of one answer
_PROMPT = ("prompt_eval_count", "prompt_tokens")  # Ollama's, OpenAI's
_ANSWER = ("eval_count", "completion_tokens")


def spent(task: Task, said: Mapping[str, Any]) -> Spent | None:
    """said: what the worker did. None: no engine was asked, or the worker is of a version that doesn't say."""
    seconds, result = said.get("seconds"), said.get("result")
    if seconds is None or not isinstance(result, Mapping):
        return None
    usage = result.get("usage")
    told = usage if isinstance(usage, Mapping) else result
    prompt, tokens = (_first(told, names) for names in (_PROMPT, _ANSWER))
    return Spent(canonical(str(task.spec.payload["model"])), prompt, tokens, float(seconds))


def _first(told: Mapping[str, Any], names: Sequence[str]) -> int:
    return next((found for name in names if isinstance(found := told.get(name), int)), 0)


class Spendings:
    """Its calls block, and are made one at a time, like the journal's."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def after(self, number: int) -> list[tuple[Any, ...]]:
        """number, ended, user, model, prompt_tokens, tokens, seconds of each; those up to this number are forgotten."""
        with self._journal.transaction() as db:
            db.execute("DELETE FROM spent WHERE number <= ?", (number,))
        return self._journal.rows("SELECT * FROM spent ORDER BY number LIMIT ?", MOST)
