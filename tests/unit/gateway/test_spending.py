from __future__ import annotations

from collections.abc import Iterable
from unittest.mock import AsyncMock, MagicMock

from cluster_ai.gateway import spending

MODELS = ["m:latest", "m:latest", "n:latest"]
ROWS = [[number, 0.0, "ada", model, 1, 2, 0.5] for number, model in enumerate(MODELS)]


async def test_which_models_answered_tasks_is_told_once_for_each_time_that_it_is_asked() -> None:
    account, tasks, told = MagicMock(settled=lambda: 0), MagicMock(), list[set[str]]()
    tasks.ask = AsyncMock(side_effect=[{"spent": ROWS}, {"spent": []}])

    def used(models: Iterable[str]) -> None:
        told.append(set(models))

    assert await spending.take(account, tasks, used)
    assert not await spending.take(account, tasks, used)
    assert told == [{"m:latest", "n:latest"}]
