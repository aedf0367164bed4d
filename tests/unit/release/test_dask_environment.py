"""What units set for Dask is what Dask itself accepts, on a real socket."""

from __future__ import annotations

import re
import socket

import dask
import pytest
from dask.utils import parse_timedelta
from distributed.comm.tcp import set_tcp_timeout

from cluster_ai import layout
from cluster_ai.config import hosts
from cluster_ai.release.units import units
from tests.unit.release.conftest import Cluster

NOTHING = object()


class Stream:
    """As much of tornado's as Dask asks of it."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    def closed(self) -> bool:
        return False


@pytest.fixture(params=[layout.SCHEDULER, layout.WORKER])
def told(cluster: Cluster, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a unit, as far as it is Dask's."""
    config = cluster.config()
    text = next(unit.text for host in hosts(config) for unit in units(config, host) if unit.name == request.param)
    return dict(re.findall(r'(DASK_\w+)=([^"\s]+)', text))


def test_the_timeout_of_connections_is_one_that_dask_takes(told: dict[str, str]) -> None:
    timeout = told["DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP"]
    with socket.socket() as connected, dask.config.set({"distributed.comm.timeouts.tcp": timeout}):
        set_tcp_timeout(Stream(connected))
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_dask_has_a_setting_of_each_name(told: dict[str, str]) -> None:
    """One that it doesn't know, it takes without a word."""
    for name in told:
        path = name.removeprefix("DASK_").lower().replace("__", ".")
        assert dask.config.get(path, default=NOTHING) is not NOTHING, name


def test_at_rest_dask_looks_at_itself_seldom(told: dict[str, str]) -> None:
    given = dask.config.collect_env(told)
    for path in ("distributed.admin.tick.interval", "distributed.worker.profile.interval"):
        seconds = parse_timedelta(dask.config.get(path, config=given))
        assert seconds >= 5 * parse_timedelta(dask.config.get(path))
        assert seconds <= 1  # or its pages tell nothing of what is short
