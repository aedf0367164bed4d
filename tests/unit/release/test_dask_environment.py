"""What units set for Dask is what Dask itself accepts, on a real socket."""

from __future__ import annotations

import re
import socket

import dask
import pytest
from distributed.comm.tcp import set_tcp_timeout

from cluster_ai import layout
from cluster_ai.config import hosts
from cluster_ai.release.units import units
from tests.unit.release.conftest import Cluster


class Stream:
    """As much of tornado's as Dask asks of it."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    def closed(self) -> bool:
        return False


@pytest.mark.parametrize("name", [layout.SCHEDULER, layout.WORKER])
def test_the_timeout_of_connections_is_one_that_dask_takes(cluster: Cluster, name: str) -> None:
    config = cluster.config()
    text = next(unit.text for host in hosts(config) for unit in units(config, host) if unit.name == name)
    timeout = re.search(r'DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP=([^"\s]+)', text)
    assert timeout
    with socket.socket() as connected, dask.config.set({"distributed.comm.timeouts.tcp": timeout[1]}):
        set_tcp_timeout(Stream(connected))
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
