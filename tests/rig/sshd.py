"""A real SSH server (paramiko's) for tests that need no more of a host than its key."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paramiko


@contextmanager
def servers() -> Iterator[Callable[[], int]]:
    """start() -> the port of a new SSH server on loopback, with a host key of its own. All end with the context."""
    stops: list[Callable[[], None]] = []

    def start() -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        key, transports, over = paramiko.RSAKey.generate(2048), [], threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                transport = paramiko.Transport(client)
                transports.append(transport)
                transport.add_server_key(key)
                transport.start_server(server=paramiko.ServerInterface(), event=threading.Event())

        thread = threading.Thread(target=serve, name="accepts")
        thread.start()

        def stop() -> None:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)
            listener.close()
            for transport in transports:
                transport.close()

        stops.append(stop)
        port: int = listener.getsockname()[1]
        return port

    try:
        yield start
    finally:
        for stop in stops:
            stop()
