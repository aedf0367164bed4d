"""A preload of Dask's scheduler, nanny and worker (`--preload cluster_ai.tls.preload`): live contexts for all of them.

It also closes, within seconds, the connections of a host that left the cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distributed.security import Security
from tornado.ioloop import PeriodicCallback

from cluster_ai.tls.dask import LiveSecurity
from cluster_ai.tls.live import Live, host_of, registered

INTERVAL = 5000  # milliseconds

Security._get_tls_context = LiveSecurity._get_tls_context  # Dask's own commands make the plain kind


def dask_setup(server: Any) -> None:
    """Called by Dask before it listens. The one context that it made before it knew of us is made anew."""
    arguments = server.connection_args
    if arguments.get("ssl_context") is None:
        return
    place = Path(server.security.tls_worker_cert or server.security.tls_scheduler_cert).parent
    if not isinstance(arguments["ssl_context"], Live):
        arguments["ssl_context"] = Live(place, server=False, check_hostname=False)

    def dismiss() -> None:
        names = registered(place)
        if names is None:
            return
        for comm in list(server._comms):
            peer = comm.extra_info.get("peercert")
            if peer is not None and host_of(peer) not in names:
                comm.abort()

    watch = PeriodicCallback(dismiss, INTERVAL)
    server.periodic_callbacks["cluster-ai-hosts"] = watch
    watch.start()
