from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster_ai.tasks.calling import Call

PATIENCE = 60.0


@pytest.fixture
def engine() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.settimeout(PATIENCE)
        yield found


def call(engine: socket.socket) -> Call:
    host, port = engine.getsockname()
    return Call(host, port, timeout=PATIENCE)


def ask(one: Call) -> bytes:
    with contextlib.closing(one):
        one.connect()
        one.request("POST", "/api/generate", "{}")
        with one.getresponse() as reply:
            return reply.read()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf"])
def test_who_waits_for_an_answer_can_be_stopped_and_lets_go_of_the_engine(engine: socket.socket, head: bytes) -> None:
    one = call(engine)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ask, one)
        peer, _ = engine.accept()
        with peer:
            peer.settimeout(PATIENCE)
            assert peer.recv(1000).startswith(b"POST /api/generate")
            peer.sendall(head)
            one.stop()
            while peer.recv(1000):  # until it has let go
                pass
        error = asking.exception(PATIENCE)
    assert error is not None


def test_one_that_is_stopped_before_it_begins_asks_nothing(engine: socket.socket) -> None:
    one = call(engine)
    one.stop()
    with pytest.raises(OSError, match="stopped"):
        ask(one)
    peer, _ = engine.accept()
    with peer:
        assert peer.recv(1000) == b""


def test_an_engine_that_is_not_there_is_waited_for_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()
    monkeypatch.setattr("cluster_ai.tasks.calling.time.sleep", lambda _: waiting.set())
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and listens to nobody
        one = call(bound)
        with ThreadPoolExecutor(1) as threads:
            asking = threads.submit(one.connect)
            assert waiting.wait(PATIENCE)
            assert not asking.done()
            one.stop()
            assert isinstance(asking.exception(PATIENCE), ConnectionRefusedError)
