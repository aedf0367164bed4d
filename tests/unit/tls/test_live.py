"""What holds a context meets others by the files as they are when a connection begins."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop

from cluster_ai import layout
from cluster_ai.security import ca
from cluster_ai.tls import live as tls
from cluster_ai.tls.live import Live


def put(place: Path, root: bytes, pair: ca.Pair, hosts: str | None = None) -> Path:
    place.mkdir(exist_ok=True)
    (place / layout.CA_CERT).write_bytes(root)
    (place / layout.CERT).write_bytes(pair.cert)
    (place / layout.KEY).write_bytes(pair.key)
    if hosts is not None:
        (place / layout.HOSTS).write_text(hosts)
    return place


class Authority:
    def __init__(self) -> None:
        self.root = ca.create("test")
        self.issuing = ca.delegate(self.root, "test")

    def issue(self, name: str, *, now: datetime | None = None) -> ca.Pair:
        return ca.issue(self.issuing, name, ["127.0.0.1"], "worker", now=now)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@contextlib.contextmanager
def serving(context: ssl.SSLContext) -> Iterator[tuple[int, list[str]]]:
    """A port that tells each client the common name of its certificate; and why it refused others."""
    refused: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        with context.wrap_socket(connection, server_side=True) as end:
                            end.sendall(tls.host_of(end.getpeercert()).encode())
                    except OSError as error:
                        refused.append(str(error))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], refused
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def meet(port: int, context: ssl.SSLContext) -> str:
    with (
        socket.create_connection(("127.0.0.1", port), 60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as end,
    ):
        assert end.version() == "TLSv1.3"
        return end.recv(100).decode()


def test_new_files_are_taken_up_by_contexts_that_exist(authority: Authority, tmp_path: Path) -> None:
    server = Live(put(tmp_path / "s", authority.root.cert, authority.issue("s")), server=True)
    place = put(tmp_path / "c", authority.root.cert, authority.issue("c"))
    client = Live(place, server=False)
    with serving(server) as (port, _):
        assert meet(port, client) == "c"
        put(place, authority.root.cert, authority.issue("d"))
        assert meet(port, client) == "d"
        other = Authority()  # another root, at both ends
        put(place, other.root.cert, other.issue("e"))
        with pytest.raises(ssl.SSLCertVerificationError):
            meet(port, client)
        put(tmp_path / "s", other.root.cert, other.issue("s"))
        assert meet(port, client) == "e"


def test_files_that_are_just_being_replaced_leave_the_last_good_ones(authority: Authority, tmp_path: Path) -> None:
    server = Live(put(tmp_path / "s", authority.root.cert, authority.issue("s")), server=True)
    place = put(tmp_path / "c", authority.root.cert, authority.issue("c"))
    client = Live(place, server=False)
    (place / layout.KEY).write_bytes(authority.issue("other").key)
    with serving(server) as (port, _):
        assert meet(port, client) == "c"


def test_a_host_that_left_is_refused_by_who_listens_and_by_who_calls(authority: Authority, tmp_path: Path) -> None:
    place = put(tmp_path / "s", authority.root.cert, authority.issue("s"), "s\nc\n")
    server = Live(place, server=True)
    stolen = Live(put(tmp_path / "c", authority.root.cert, authority.issue("c")), server=False)
    with serving(server) as (port, refused):
        assert meet(port, stolen) == "c"
        (place / layout.HOSTS).write_text("s\n")
        with contextlib.suppress(OSError):
            assert meet(port, stolen) == ""
    assert [it for it in refused if "c, which is no host of the cluster" in it]
    caller = Live(put(tmp_path / "h", authority.root.cert, authority.issue("h"), "h\n"), server=False)
    with serving(Live(tmp_path / "c", server=True)) as (port, _), pytest.raises(tls.StrangerError, match="no host of"):
        meet(port, caller)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_event_loops_refuse_it_too(
    authority: Authority, tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    caller = Live(put(tmp_path / "h", authority.root.cert, authority.issue("h"), "h\nfriend\n"), server=False)

    async def call(port: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=caller)
        said = await reader.read(100)
        writer.close()
        return said.decode()

    for name, welcome in (("friend", True), ("stranger", False)):
        server = Live(put(tmp_path / name, authority.root.cert, authority.issue(name)), server=True)
        with serving(server) as (port, _), asyncio.Runner(loop_factory=loop) as runner:
            if welcome:
                assert runner.run(call(port)) == "h"
            else:
                with pytest.raises(ssl.SSLError, match="no host of the cluster"):
                    runner.run(call(port))


def test_a_certificate_that_isnt_valid_yet_makes_one_think_of_the_clock(authority: Authority, tmp_path: Path) -> None:
    late = authority.issue("s", now=datetime.now(UTC) + timedelta(hours=1))
    ended = authority.issue("s", now=datetime.now(UTC) - timedelta(days=30))
    client = Live(put(tmp_path / "c", authority.root.cert, authority.issue("c")), server=False)
    for pair, told in ((late, "is not valid yet"), (ended, "has expired")):
        server = Live(put(tmp_path / "s", authority.root.cert, pair), server=True)
        with serving(server) as (port, _), pytest.raises(ssl.SSLCertVerificationError) as caught:
            meet(port, client)
        assert told in tls.worded(caught.value)
        assert "clock" in tls.worded(caught.value)


def test_a_name_that_is_too_long_for_a_common_name_counts_whole(authority: Authority, tmp_path: Path) -> None:
    """Two that differ after 64 characters are two hosts: one is of the cluster, one is not."""
    begin = ".".join(["machine", *["x" * 20] * 3])
    one, other = f"{begin}.one.example.org", f"{begin}.other.example.org"
    server = Live(put(tmp_path / "s", authority.root.cert, authority.issue("s"), f"s\n{one}\n"), server=True)
    client = Live(put(tmp_path / "c", authority.root.cert, authority.issue(one), f"s\n{one}\n"), server=False)
    stranger = Live(put(tmp_path / "d", authority.root.cert, authority.issue(other)), server=False)
    with serving(server) as (port, refused):
        assert meet(port, client) == one
        with contextlib.suppress(OSError):
            assert meet(port, stranger) == ""
    assert any(other in it for it in refused)
