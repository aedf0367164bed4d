"""Takes what engines did for tasks into the account of users: each once, whichever process ends in between."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterable

from cluster_ai.gateway.admission.account import Account, Key, Used, day_of
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.tasks import TaskManager

PERIOD = 5.0  # seconds


async def keep(account: Account, tasks: TaskManager, used: Callable[[Iterable[str]], None]) -> None:
    """Until cancelled. used: is told which models answered."""
    while True:
        # The manager is away, or the disk is full: what isn't taken now is taken later.
        with contextlib.suppress(Refusal, sqlite3.Error):
            while await take(account, tasks, used):
                pass
        await asyncio.sleep(PERIOD)


async def take(account: Account, tasks: TaskManager, used: Callable[[Iterable[str]], None]) -> bool:
    """Whether there was any. Raises Refusal, sqlite3.Error."""
    before = await asyncio.to_thread(account.settled)
    rows = (await tasks.ask("GET", "/spent", {"after": str(before)}))["spent"]
    if not rows:
        return False
    used({model for _, _, _, model, *_ in rows})
    sums: dict[Key, Used] = {}
    for _, ended, owner, model, prompt_tokens, tokens, seconds in rows:
        user = str(owner).partition("@")[0]  # of those without a key, the address is no part of their name
        sums.setdefault((day_of(ended), user, model), Used()).add(Used(1, prompt_tokens, tokens, seconds))
    await asyncio.shield(asyncio.to_thread(account.settle, before, int(rows[-1][0]), sums))
    return True
