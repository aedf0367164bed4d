"""What a host gives to others and gets from them, by real processes with real certificates on this machine."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import http.client
import json
import os
import pwd
import select
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.deploys import peer, remote
from cluster_ai.security import ca

CONTENT = os.urandom(3_000_000)
NAME = hashlib.sha256(CONTENT).hexdigest()
WAIT = 60  # seconds that anything may take
USER = "nobody" if os.geteuid() == 0 else getpass.getuser()


@dataclass
class Running:
    """peer.py on a host whose folders are below `path`."""

    path: Path
    process: subprocess.Popen[bytes]
    port: int = 0
    _buffer: bytes = b""

    @property
    def incoming(self) -> Path:
        return self.path / "var/incoming"

    def order(self, **fields: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(fields).encode() + b"\n")
        self.process.stdin.flush()

    def fetch(self, source: Running, name: str = NAME) -> None:
        self.order(fetch=name, **{"from": ("127.0.0.1", source.port)})

    def said(self) -> dict[str, Any]:
        """Its next word that isn't about progress."""
        assert self.process.stdout
        while True:
            while b"\n" not in self._buffer:
                assert select.select([self.process.stdout], [], [], WAIT)[0], "it says nothing"
                chunk = os.read(self.process.stdout.fileno(), 1 << 16)
                assert chunk, "it ended"
                self._buffer += chunk
            line, _, self._buffer = self._buffer.partition(b"\n")
            message: dict[str, Any] = json.loads(line)
            if "at" not in message:
                return message

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()


Start = Callable[..., Running]


@pytest.fixture(scope="module")
def authority() -> ca.Pair:
    return ca.create("test")


@pytest.fixture
def start(tmp_path: Path, authority: ca.Pair) -> Iterator[Start]:
    """start(name, have=content of the file there, of=the CA that its certificate is of)."""
    running: list[Running] = []

    def begin(name: str, *, have: bytes | None = None, of: ca.Pair = authority) -> Running:
        path = tmp_path / name
        etc, state = path / "etc", path / "var"
        for folder in (etc, state / "blobs", state / "incoming"):
            folder.mkdir(parents=True)
        certify(etc, of)
        entry = pwd.getpwnam(USER)
        os.chown(state / "incoming", entry.pw_uid, entry.pw_gid)
        if have is not None:
            (state / "incoming" / NAME).write_bytes(have)
            os.chown(state / "incoming" / NAME, entry.pw_uid, entry.pw_gid)
        command = [sys.executable, "-I", "-c", remote.script("peer.py")]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        made = Running(path, process)
        running.append(made)
        made.order(state=str(state), etc=str(etc), user=USER, port=0)
        first = made.said()
        assert first == {"ready": True, "hindrance": "", "port": first["port"]}
        made.port = first["port"]
        made.order(give={NAME: len(CONTENT)})
        return made

    yield begin
    for it in running:
        it.stop()


def certify(etc: Path, of: ca.Pair) -> None:
    pair = ca.issue(of, "h", ["127.0.0.1"], "worker")
    for name, content in (("ca.pem", of.cert), ("cert.pem", pair.cert), ("key.pem", pair.key)):
        (etc / name).write_bytes(content)


def ask(source: Running, path: str, tls: ssl.SSLContext, begin: int = 0) -> tuple[int, bytes]:
    """Status and content."""
    with contextlib.closing(
        http.client.HTTPSConnection("127.0.0.1", source.port, timeout=WAIT, context=tls)
    ) as connection:
        connection.request("GET", path, headers={"Range": f"bytes={begin}-"})
        with connection.getresponse() as answer:
            return answer.status, answer.read()


def test_a_file_goes_from_host_to_host(start: Start) -> None:
    first, second, third = start("first", have=CONTENT), start("second"), start("third")
    second.fetch(first)
    third.fetch(second)
    assert second.said() == {"got": NAME}
    assert third.said() == {"got": NAME}
    assert (third.incoming / NAME).read_bytes() == CONTENT


def test_what_still_comes_in_is_passed_on_already(start: Start) -> None:
    first, second, third = start("first", have=b""), start("second"), start("third")
    third.fetch(second)  # which has nothing yet
    second.fetch(first)
    with (first.incoming / NAME).open("ab", buffering=0) as file:
        for begin in range(0, len(CONTENT), 1_000_000):
            file.write(CONTENT[begin : begin + 1_000_000])
    assert third.said() == {"got": NAME}
    assert second.said() == {"got": NAME}


def test_a_file_that_has_been_put_in_its_place_is_given_from_there(start: Start) -> None:
    first, second = start("first", have=CONTENT), start("second")
    (first.incoming / NAME).replace(first.path / "var/blobs" / NAME)
    second.fetch(first)
    assert second.said() == {"got": NAME}


def test_what_was_cut_off_goes_on_where_it_was(start: Start) -> None:
    half = len(CONTENT) // 2
    first = start("first", have=bytes(half) + CONTENT[half:])  # so only the second half can come from it
    second = start("second", have=CONTENT[:half])
    second.fetch(first)
    assert second.said() == {"got": NAME}
    assert (second.incoming / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("there", [b"", b"wrong", CONTENT + b"more"], ids=["nothing", "wrong", "more"])
def test_a_file_that_is_not_what_its_name_says_is_refused_and_begun_again_elsewhere(start: Start, there: bytes) -> None:
    liar, honest = start("liar", have=bytes(len(CONTENT))), start("honest", have=CONTENT)
    third = start("third", have=there)
    third.fetch(liar)
    said = third.said()
    assert (said["failed"], said["why"]) == (NAME, "corrupt")
    assert NAME in said["said"]
    assert not (third.incoming / NAME).exists()
    third.fetch(honest)
    assert third.said() == {"got": NAME}


def test_a_source_that_dies_midway_is_told_and_another_goes_on_from_there(start: Start) -> None:
    first, other, third = start("first", have=CONTENT[:1_000_000]), start("other", have=CONTENT), start("third")
    third.fetch(first)
    while not (third.incoming / NAME).exists() or (third.incoming / NAME).stat().st_size < 1_000_000:
        assert third.process.poll() is None
    first.stop()
    said = third.said()
    assert (said["failed"], said["why"]) == (NAME, "unreachable")
    third.fetch(other)
    assert third.said() == {"got": NAME}


def test_a_host_of_another_cluster_gets_nothing_and_gives_nothing(start: Start) -> None:
    ours, foreign = start("ours", have=CONTENT), start("foreign", of=ca.create("another"))
    foreign.fetch(ours)
    assert foreign.said()["why"] == "unreachable"
    ours.order(give={"0" * 64: 1})
    ours.fetch(foreign, "0" * 64)
    assert "certificate" in ours.said()["said"]


def test_who_shows_no_certificate_gets_nothing(start: Start) -> None:
    source = start("source", have=CONTENT)
    tls = ssl.create_default_context(cafile=str(source.path / "etc/ca.pem"))
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(source, f"/{NAME}", tls)
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", source.port), WAIT) as plain,
    ):
        plain.sendall(f"GET /{NAME} HTTP/1.1\r\n\r\n".encode())
        assert CONTENT[:8] not in plain.recv(4096)


@pytest.mark.parametrize(
    "path", ["/", "/../etc/key.pem", "//etc/passwd", "/%2e%2e/etc/key.pem", f"/{'0' * 64}", f"/{NAME}/", f"/../{NAME}"]
)
def test_nothing_but_files_of_this_push_can_be_had(start: Start, path: str) -> None:
    source = start("source", have=CONTENT)
    (source.incoming / ("0" * 64)).write_bytes(b"of no push")
    tls = peer.context(source.path / "etc", ssl.PROTOCOL_TLS_CLIENT)
    assert ask(source, path, tls)[0] == 404
    assert ask(source, f"/{NAME}", tls, len(CONTENT) - 3) == (206, CONTENT[-3:])
    assert ask(source, f"/{NAME}", tls, len(CONTENT))[0] == 416


def test_a_link_is_not_followed(start: Start) -> None:
    source = start("source")
    (source.path / "secret").write_bytes(CONTENT)
    (source.path / "link").symlink_to(source.path / "secret")
    (source.path / "link").replace(source.incoming / NAME)
    tls = peer.context(source.path / "etc", ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(http.client.IncompleteRead):
        ask(source, f"/{NAME}", tls)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_it_does_not_go_on_as_root(start: Start) -> None:
    status = Path(f"/proc/{start('source').process.pid}/status").read_text()
    uid = str(pwd.getpwnam("nobody").pw_uid)
    assert status.partition("Uid:")[2].split()[:4] == [uid] * 4
    assert set(status.partition("CapEff:")[2].split()[0]) == {"0"}


def test_it_ends_with_its_input_and_removes_what_it_kept_for_others(start: Start) -> None:
    orderly, left = start("orderly", have=CONTENT), start("left", have=CONTENT)
    orderly.order(end=[NAME])
    assert orderly.process.wait(WAIT) == 0
    assert not (orderly.incoming / NAME).exists()
    assert left.process.stdin
    left.process.stdin.close()
    assert left.process.wait(WAIT) == 0
    assert (left.incoming / NAME).exists()
