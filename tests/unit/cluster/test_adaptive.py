"""How many processes a host should have, before a scheduler that stands still."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster_ai.cluster.adaptive import Adapting, Host, wanted
from cluster_ai.settings import HostProcesses, ProcessScale

GIB = 1 << 30
SHARE = HostProcesses("w1", 4, 2, 2 * GIB)
SCALE = ProcessScale(1, 3.0, False, (SHARE,))


class Site:
    """One host, with these tasks' needs."""

    def __init__(self, *needs: dict[str, int], scale: ProcessScale = SCALE) -> None:
        self.all_needs = list(needs)
        self.is_cordoned = False
        self.told: list[tuple[int, int, str, bool]] = []
        owner: Any = self
        self.host = Host(owner, SHARE, scale)

    def needs(self, host: str) -> list[dict[str, int]]:
        return self.all_needs

    def processes(self, host: str) -> dict[str, Any]:
        return dict.fromkeys(self.host.plan)

    def cordoned(self, host: str) -> bool:
        return self.is_cordoned

    def tell(self, host: str, before: int, after: int, reason: str, *, dry_run: bool) -> None:
        self.told.append((before, after, reason, dry_run))

    async def count(self, looks: int = 1) -> int:
        for _ in range(looks):
            await self.host.adapt()
        return self.host.count


@pytest.mark.parametrize(
    ("needs", "count"),
    [
        ([], 0),
        ([{"CPU": 1}], 1),
        ([{"CPU": 1}] * 5, 3),
        ([{}] * 5, 3),  # of no task manager
        ([{"CPU": 1, "MEMORY": 2 * GIB}] * 3, 3),
        ([{"ENGINE": 1}, {"CPU": 2, "GPU": 1}] * 9, 0),  # engine and cards are the first's
    ],
)
def test_a_process_for_each_share_that_tasks_ask_for(needs: list[dict[str, float]], count: int) -> None:
    assert wanted(needs, SHARE) == count


async def test_they_come_at_once_and_go_after_the_cool_down_within_their_limits() -> None:
    site = Site(*[{"CPU": 1}] * 100)
    assert await site.count() == 4
    site.all_needs = [{"CPU": 1}] * 3
    assert await site.count(2) == 4
    site.all_needs = [{"CPU": 1}] * 8  # needed after all: it begins anew
    assert await site.count() == 4
    site.all_needs = []
    assert await site.count(2) == 4
    assert await site.count() == 1
    assert [it[:2] for it in site.told] == [(1, 4), (4, 1)]


async def test_a_cordoned_host_keeps_its_first_alone() -> None:
    site = Site(*[{"CPU": 1}] * 100)
    site.is_cordoned = True
    assert await site.count(3) == 1
    site.is_cordoned = False
    assert await site.count() == 4
    site.is_cordoned = True
    assert await site.count(3) == 1
    assert site.told[-1][2] == "it is cordoned"


async def test_a_dry_run_tells_once_and_changes_nothing() -> None:
    site = Site(*[{"CPU": 1}] * 100, scale=ProcessScale(1, 3.0, True, (SHARE,)))
    assert await site.count(5) == 1
    assert [(before, after, dry) for before, after, _, dry in site.told] == [(1, 4, True)]


async def test_a_process_that_joins_may_have_what_was_sent_to_its_host_by_address() -> None:
    pinned, free = SimpleNamespace(worker_restrictions={"a1"}), SimpleNamespace(worker_restrictions=None)
    elsewhere = SimpleNamespace(worker_restrictions={"b1"})
    workers = {
        address: SimpleNamespace(name=name, address=address, processing=tasks)
        for address, name, tasks in (("a1", "w1", [pinned, free]), ("a2", "w1#2", []), ("b1", "w2", [elsewhere]))
    }
    scheduler = SimpleNamespace(workers=workers, queued=[])
    cordons: Any = None
    adapting = Adapting(scheduler, cordons, ProcessScale(1, 1.0, False, ()))
    adapting.add_worker(scheduler, "a2")
    assert (pinned.worker_restrictions, free.worker_restrictions) == ({"a1", "a2"}, None)
    assert elsewhere.worker_restrictions == {"b1"}
    await adapting.close()
