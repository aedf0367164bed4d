"""What each user has used, and that it lasts."""

from __future__ import annotations

import sqlite3
from datetime import date
from pathlib import Path

from cluster_ai.gateway.admission.account import FILE, Account, Used

DAY = 86400.0
FIRST, LAST = date(1970, 1, 1), date(1970, 1, 31)


async def used(
    account: Account, user: str | None = None, first: date = FIRST, last: date = LAST
) -> list[tuple[str, str, str, int, int]]:
    lines = await account.read(first, last, user)
    return [(line.day, line.user, line.model, line.used.requests, line.used.tokens) for line in lines]


async def test_requests_add_up_by_day_user_and_model() -> None:
    now = [0.0]
    async with Account(None, clock=lambda: now[0]) as account:
        account.add("anna", "m", Used(1, 10, 5, 0.5))
        account.add("anna", "m", Used(1, 10, 5, 0.5))
        account.add("ben", "m", Used(1, 0, 7, 0.5))
        now[0] = DAY + 1
        account.add("anna", "m", Used(1, 1, 1, 0.5))
        assert await used(account, "anna") == [("1970-01-01", "anna", "m", 2, 10), ("1970-01-02", "anna", "m", 1, 1)]
        assert await used(account, last=FIRST) == [("1970-01-01", "anna", "m", 2, 10), ("1970-01-01", "ben", "m", 1, 7)]


async def test_an_orderly_end_loses_nothing(tmp_path: Path) -> None:
    async with Account(tmp_path, clock=lambda: 0.0) as account:
        account.add("anna", "m", Used(1, 10, 5, 0.5))
    async with Account(tmp_path, clock=lambda: 0.0) as account:
        assert await used(account) == [("1970-01-01", "anna", "m", 1, 5)]


async def test_two_gateways_write_into_one_account(tmp_path: Path) -> None:
    async with Account(tmp_path, clock=lambda: 0.0) as one, Account(tmp_path, clock=lambda: 0.0) as other:
        one.add("anna", "m", Used(1, 10, 5, 0.5))
        assert await used(one) == [("1970-01-01", "anna", "m", 1, 5)]
        other.add("anna", "m", Used(1, 10, 5, 0.5))
        assert await used(other) == [("1970-01-01", "anna", "m", 2, 10)]
        assert await used(one) == [("1970-01-01", "anna", "m", 2, 10)]


async def test_what_cant_be_written_now_is_written_later(tmp_path: Path) -> None:
    notes: list[str] = []
    async with Account(tmp_path, notes.append, clock=lambda: 0.0) as account:
        beside = sqlite3.connect(tmp_path / FILE)
        beside.execute("ALTER TABLE usage RENAME TO other")
        account.add("anna", "m", Used(1, 10, 5, 0.5))
        account._write(account._taken())
        assert "kept in memory" in notes[0]
        beside.execute("ALTER TABLE other RENAME TO usage")
        beside.close()
        assert await used(account) == [("1970-01-01", "anna", "m", 1, 5)]


async def test_what_tasks_used_counts_once_whichever_of_two_gateways_takes_it(tmp_path: Path) -> None:
    async with Account(tmp_path) as one, Account(tmp_path) as other:
        sums = {("1970-01-01", "anna", "m"): Used(2, 20, 10, 1.0)}
        assert (one.settled(), other.settled()) == (0, 0)
        one.settle(0, 7, sums)
        other.settle(0, 7, sums)  # it had asked in the same moment
        assert (one.settled(), other.settled()) == (7, 7)
        other.settle(7, 8, {("1970-01-01", "anna", "m"): Used(1, 1, 1, 1.0)})
        assert await used(one) == [("1970-01-01", "anna", "m", 3, 11)]
