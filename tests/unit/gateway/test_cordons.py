"""What is kept of cordons, and when Dask is told."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from cluster_ai.cluster.membership import NOT_ASKED, Left, Member, Membership, View
from cluster_ai.errors import UnavailableError
from cluster_ai.gateway.cordons import FILE, CordonFile, Cordons
from cluster_ai.gateway.fleet import Cordon, Fleet
from cluster_ai.gateway.log import Log
from cluster_ai.settings import GatewaySettings, Upstream

UPSTREAMS = tuple(Upstream(n, "http://x", ("M",), 1, 0) for n in ("a", "b"))
SETTINGS = GatewaySettings("c", "h", 1, "least_loaded", (), "tls://s:1", UPSTREAMS, {"M": 512})


class Dask:
    """Stands in for the membership: remembers what it is told."""

    def __init__(self) -> None:
        self.connected, self.reason = True, ""
        self.view: View | None = View({}, None, 0)
        self.told: list[dict[str, bool]] = []
        self.fails = False

    async def cordon(self, names: Mapping[str, bool]) -> Mapping[str, Left]:
        if self.fails:
            raise UnavailableError("it is away")
        self.told.append(dict(names))
        left = dict.fromkeys(names, Left(0, 0))
        self.view = View({}, None, 0, left)
        return left


class Site:
    def __init__(self, folder: Path | None) -> None:
        self.fleet, self.dask, self.log, self.ending = Fleet(SETTINGS), Dask(), io.StringIO(), False
        self.a, self.b = self.fleet.workers.values()
        membership = cast(Membership, self.dask)
        self.cordons = Cordons(self.fleet, membership, CordonFile(folder), Log(self.log), ending=lambda: self.ending)

    async def view(self, **statuses: str) -> None:
        """The scheduler is seen, with what it was told; then all that this leads to has happened."""
        members = {name: Member(name, "", status, 0, None) for name, status in statuses.items()}
        cordoned = self.dask.view.cordoned if self.dask.view else {}
        self.dask.view = View(members, None, 0, cordoned)
        self.cordons.seen(self.dask.view, "")
        await asyncio.gather(*self.cordons._telling)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_drain_is_known_after_a_restart_and_told_to_the_scheduler(tmp_path: Path, site: Site) -> None:
    async with site.cordons:
        await site.cordons.cordon(site.a, "new fans", drain=True)
        assert site.dask.told == [{"a": True}]
        assert site.cordons.left(site.a) == Left(0, 0)
    again = Site(tmp_path)
    async with again.cordons:
        assert again.a.cordon == site.a.cordon
        assert again.cordons.left(again.a) is None
        await again.view()
        assert again.dask.told == [{"a": True}]
        await again.view()
        assert again.dask.told == [{"a": True}]


async def test_what_is_resumed_and_what_is_no_longer_configured_is_forgotten(tmp_path: Path, site: Site) -> None:
    CordonFile(tmp_path).write({"a": Cordon("x", 1, drained=True), "gone": Cordon("y", 2, drained=False)})
    async with site.cordons:
        assert site.a.cordon == Cordon("x", 1, drained=True)
        await site.cordons.cordon(site.b, "z", drain=False)
        await site.cordons.resume(site.a)
    assert set(json.loads((tmp_path / FILE).read_text())["workers"]) == {"b"}


async def test_a_cordon_does_not_weaken_a_drain_and_the_last_reason_counts(site: Site) -> None:
    async with site.cordons:
        await site.cordons.cordon(site.a, "rollout 1", drain=True)
        since = site.a.cordon.since if site.a.cordon else 0
        await site.cordons.cordon(site.a, "new fans", drain=False)
        assert site.a.cordon == Cordon("new fans", since, drained=True)


async def test_a_scheduler_that_is_away_is_told_when_it_is_back(site: Site) -> None:
    async with site.cordons:
        site.dask.fails = True
        await site.cordons.cordon(site.a, "", drain=True)
        assert site.cordons.untold == "it is away"
        assert site.cordons.left(site.a) is None
        site.dask.fails = False
        await site.view()
        assert site.dask.told == [{"a": True}]
        assert site.cordons.untold == ""


async def test_a_scheduler_is_told_by_a_gateway_that_has_just_started_but_not_while_it_is_known_to_be_away(
    site: Site,
) -> None:
    async with site.cordons:
        site.dask.connected, site.dask.reason = False, "it is away"
        await site.cordons.cordon(site.a, "", drain=True)
        assert (site.dask.told, site.cordons.untold) == ([], "it is away")
        site.dask.reason = NOT_ASKED
        await site.cordons.cordon(site.a, "again", drain=True)
        assert site.dask.told == [{"a": True}]


async def test_a_scheduler_that_was_lost_is_told_again(site: Site) -> None:
    async with site.cordons:
        await site.cordons.cordon(site.a, "", drain=True)
        site.dask.connected, site.dask.reason = False, "lost"
        site.cordons.seen(None, "lost")
        assert site.cordons.untold == "lost"
        site.dask.connected, site.dask.reason = True, ""
        await site.view()
        assert site.dask.told == [{"a": True}, {"a": True}]


async def test_a_scheduler_that_holds_workers_which_nobody_cordoned_is_told_so(site: Site) -> None:
    async with site.cordons:
        site.dask.view = View({}, None, 0, {"b": Left(0, 0)})
        await site.view()
        assert site.dask.told == [{}]


async def test_a_resumed_worker_is_active_before_the_scheduler_is_seen_again(site: Site) -> None:
    async with site.cordons:
        await site.cordons.cordon(site.a, "", drain=True)
        await site.view(a="closing_gracefully", b="closing_gracefully")
        assert site.a.leaving
        await site.cordons.resume(site.a)
        assert not site.a.leaving
        assert site.b.leaving  # Dask itself closes it


async def test_a_gateway_that_ends_tells_the_scheduler_nothing_more(site: Site) -> None:
    async with site.cordons:
        site.ending = True
        await site.cordons.cordon(site.a, "", drain=True)
        assert site.dask.told == []


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 2, "workers": {}}', '{"format": 1, "workers": {"a": {"x": 1}}}', '{"format": 1}'],
)
async def test_a_file_that_cannot_be_read_is_told_of_and_the_gateway_starts(
    text: str, tmp_path: Path, site: Site
) -> None:
    (tmp_path / FILE).write_text(text)
    async with site.cordons:
        assert site.a.cordon is None
    assert "what was cordoned is forgotten" in site.log.getvalue()


async def test_a_file_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    site = Site(tmp_path / "absent")
    async with site.cordons:
        await site.cordons.cordon(site.a, "", drain=True)
        assert site.a.cordon
    assert "a restart of the gateway would forget this" in site.log.getvalue()


async def test_without_a_folder_nothing_is_kept() -> None:
    site = Site(None)
    async with site.cordons:
        await site.cordons.cordon(site.a, "", drain=True)
        assert site.a.cordon


def test_a_file_is_written_whole_with_nothing_left_beside_it(tmp_path: Path) -> None:
    CordonFile(tmp_path).write({"a": Cordon("x", 1, drained=True)})
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert CordonFile(tmp_path).read(["a"]) == {"a": Cordon("x", 1, drained=True)}
