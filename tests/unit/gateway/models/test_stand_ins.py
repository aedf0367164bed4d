"""Stand-ins outlast the gateway; a rollout's lease is read as it is written."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from cluster_ai.gateway.api.native.kept.database import Database
from cluster_ai.gateway.models.lease import holder
from cluster_ai.gateway.models.stand_ins import StandIns
from cluster_ai.placement.repair import StandIn

ONE = StandIn("m:latest", "b", "a", "gpu", True, 12.5)


def test_stand_ins_are_the_same_after_a_restart(tmp_path: Path) -> None:
    for begun in (False, True):
        database = Database(tmp_path)
        there = StandIns(database)
        if begun:
            assert list(there) == [ONE]
            assert there.of("m:latest", "b") == ONE
            there.remove("m:latest", "b")
            assert not list(there)
        else:
            there.add(ONE)
        database.close()


def test_what_another_gateway_wrote_is_there_once_it_is_read(tmp_path: Path) -> None:
    with contextlib.closing(Database(tmp_path)) as own, contextlib.closing(Database(tmp_path)) as others:
        there = StandIns(own)
        StandIns(others).add(ONE)
        assert not list(there)
        there.read()
        assert list(there) == [ONE]


def lease(ends_in: float) -> str:
    return json.dumps({"owner": "ada@desk", "doing": "apply", "expires": time.time() + ends_in})


def test_a_lease_holds_until_it_expires(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    assert holder(path) == holder(None) == ""
    path.write_text(lease(99))
    assert holder(path) == "ada@desk: apply"
    path.write_text(lease(-1))
    assert holder(path) == ""


@pytest.mark.parametrize("text", [json.dumps({"released": 1.0}), "[]", "half of a fi"])
def test_a_lease_that_nobody_holds_or_can_read_says_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lease.json"
    path.write_text(text)
    assert holder(path) == ""
