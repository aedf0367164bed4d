"""Runs on a host while releases are pushed: gives to other hosts what has come here, and fetches from them.

By the host's own python3; its text travels with the call, as receiver.py's does: standard library only. A JSON object a
line: orders on standard input, what happens on standard output. It begins as root, to read the host's key and open two
folders, and goes on as the user that owns what comes in. It ends with its input, or when that says nothing for long: a
controller that dies leaves no server behind.

Over TLS 1.3, between certificates of the cluster's CA alone. Only files of this push are given, by their SHA-256; what
is still coming in is given as it comes.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 (else imported later, by who may not read root's files any more)
import errno
import hashlib
import http.client
import json
import os
import pwd
import re
import select
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

PATIENCE = 60  # seconds without a word from the controller
CONNECT = 10  # seconds for a connection, its handshake and the first line of an answer
STARVED = 10  # seconds that a follower is kept waiting for more before it has to ask again
SILENCE = 20  # seconds without a byte from a source, before it is asked again whether it lives
POLL = 0.05
CHUNK = 1 << 18
AT_ONCE = 64  # connections
RANGE = re.compile(r"bytes=(\d{1,20})-")


class Files:
    """What has come, and what comes, by SHA-256."""

    def __init__(self, state: Path) -> None:
        self._folders = [os.open(state / name, os.O_RDONLY | os.O_DIRECTORY) for name in ("incoming", "blobs")]
        self.sizes: dict[str, int] = {}  # of the files of this push; nothing else is given to anybody

    def open(self, name: str) -> int | None:
        for folder in self._folders:
            with contextlib.suppress(OSError):  # not there, a link, or not to be read yet
                return os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        return None

    def grow(self, name: str) -> int:
        """The file that comes in, to go on where it was cut off."""
        incoming, flags = self._folders[0], os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        with contextlib.suppress(PermissionError):
            return os.open(name, flags, 0o644, dir_fd=incoming)
        self.remove(name)  # another user's: the folder is ours
        return os.open(name, flags, 0o644, dir_fd=incoming)

    def expect(self, name: str, size: int) -> None:
        """Give it from now on. It is begun here: rsync as root would begin a file that only root can read."""
        self.sizes[name] = size
        with contextlib.suppress(OSError):
            handle = self.open(name)
            os.close(self.grow(name) if handle is None else handle)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folders[0])

    def read(self, name: str, begin: int) -> Iterator[bytes]:
        """The content from there on, as it comes; ends early when nothing comes for long, or it is another file now."""
        size, handle, deadline = self.sizes[name], self.open(name), time.monotonic() + STARVED
        try:
            while begin < size and time.monotonic() < deadline:
                chunk = os.pread(handle, CHUNK, begin) if handle is not None else b""
                if chunk:
                    yield chunk
                    begin, deadline = begin + len(chunk), time.monotonic() + STARVED
                    continue
                if handle is not None and not os.fstat(handle).st_nlink:
                    return
                time.sleep(POLL)
                handle = self.open(name) if handle is None else handle
        finally:
            if handle is not None:
                os.close(handle)


class Bounded(socketserver.ThreadingTCPServer):
    """Over TLS, a thread for each connection, and so many at once; further ones are closed."""

    daemon_threads = True

    def __init__(self, port: int, answer: type[Secure], tls: ssl.SSLContext, at_once: int) -> None:
        super().__init__(("", port), answer, bind_and_activate=False)
        self.socket.close()
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        self.socket = socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=at_once)
        self.tls, self._free = tls, threading.BoundedSemaphore(at_once)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class Secure(BaseHTTPRequestHandler):
    """An answer over TLS, whose handshake is made in its own thread."""

    server: Bounded
    handshake = CONNECT  # seconds

    def setup(self) -> None:
        self.request.settimeout(self.handshake)
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()  # the plain socket was given away to this one

    def log_message(self, *_: object) -> None:
        pass


class Server(Bounded):
    def __init__(self, port: int, tls: ssl.SSLContext, files: Files) -> None:
        super().__init__(port, Answer, tls, AT_ONCE)
        self.files = files

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Strangers, and followers that go away, are no event."""


class Answer(Secure):
    server: Server
    timeout = SILENCE
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path[1:]
        size = self.server.files.sizes.get(name)
        if size is None:
            return self.send_error(HTTPStatus.NOT_FOUND)
        asked = RANGE.fullmatch(self.headers.get("Range", "bytes=0-"))
        begin = int(asked[1]) if asked else size
        if begin >= size > 0:
            return self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Length", str(size - begin))
        self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        self.end_headers()
        for chunk in self.server.files.read(name, begin):
            self.wfile.write(chunk)
        self.close_connection = True  # it may have ended early
        return None


class FaultError(Exception):
    """What is wrong with a source, or with this host ("full")."""

    def __init__(self, why: str, said: str) -> None:
        super().__init__(said)
        self.why, self.said = why, said


class Peer:
    def __init__(self, order: dict[str, Any]) -> None:
        state, etc = Path(order["state"]), Path(order["etc"])
        self.port = order["port"]
        self.files = Files(state)
        self._server_tls = context(etc, ssl.PROTOCOL_TLS_SERVER)
        self._client_tls = context(etc, ssl.PROTOCOL_TLS_CLIENT)
        self._saying = threading.Lock()
        self._at = 0

    def serve(self) -> str:
        """Begin to; what is in the way of it, if something is."""
        try:
            server = Server(self.port, self._server_tls, self.files)
        except OSError as error:
            return f"port {self.port}: {error.strerror}"
        self.port = server.socket.getsockname()[1]
        threading.Thread(target=server.serve_forever, args=(1,), daemon=True).start()
        return ""

    def work(self, lines: Iterator[str]) -> None:
        threading.Thread(target=self._tick, daemon=True).start()
        for line in lines:
            order = json.loads(line)
            for name, size in order.get("give", {}).items():
                self.files.expect(name, size)
            if "fetch" in order:
                threading.Thread(target=self._fetch, args=(order["fetch"], order["from"]), daemon=True).start()
            if "end" in order:
                for name in order["end"]:
                    self.files.remove(name)
                return

    def say(self, **message: Any) -> None:
        with self._saying:
            print(json.dumps(message), flush=True)

    def _tick(self) -> None:
        told = 0
        while True:
            time.sleep(1)
            if self._at != told:
                told = self._at
                self.say(at=told)

    def _fetch(self, name: str, source: tuple[str, int]) -> None:
        try:
            self.fetch(name, *source)
        except FaultError as fault:
            self.say(failed=name, why=fault.why, said=fault.said)
        except Exception as error:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            self.say(failed=name, why="full" if full else "host", said=str(error))
        else:
            self.say(got=name)

    def fetch(self, name: str, address: str, port: int) -> None:
        """All of a file, from where it was cut off, checked."""
        size, digest = self.files.sizes[name], hashlib.sha256()
        with os.fdopen(self.files.grow(name), "r+b", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > size:
                file.truncate(0)
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
            while file.tell() < size:
                for chunk in self._more(name, address, port, file.tell()):
                    file.write(chunk)
                    digest.update(chunk)
                    self._at += len(chunk)
                time.sleep(POLL)
        if digest.hexdigest() != name:
            self.files.remove(name)  # it would be gone on with, and stay wrong
            raise FaultError("corrupt", f"gives a file whose SHA-256 is {digest.hexdigest()}, not {name}")

    def _more(self, name: str, address: str, port: int, begin: int) -> Iterator[bytes]:
        """What a source has of it. One that has nothing more yet ends the answer, and is asked again."""
        connection = http.client.HTTPSConnection(address, port, timeout=CONNECT, context=self._client_tls)
        try:
            try:
                connection.request("GET", f"/{name}", headers={"Range": f"bytes={begin}-"})
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise FaultError("unreachable", str(error) or type(error).__name__) from error
            if answer.status != HTTPStatus.PARTIAL_CONTENT:
                raise FaultError("unreachable", f"answers with {answer.status}")
            connection.sock.settimeout(SILENCE)
            left = self.files.sizes[name] - begin
            with contextlib.suppress(OSError, http.client.HTTPException):  # whether it lives, the next question tells
                while left > 0 and (chunk := answer.read1(min(left, CHUNK))):
                    left -= len(chunk)
                    yield chunk
        finally:
            connection.close()


def context(etc: Path, kind: int) -> ssl.SSLContext:
    made = ssl.SSLContext(kind)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_cert_chain(etc / "cert.pem", etc / "key.pem")
    made.load_verify_locations(etc / "ca.pem")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def become(user: str) -> None:
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


def lines() -> Iterator[str]:
    """Standard input, until it ends or says nothing for long."""
    buffer = b""
    while select.select([0], [], [], PATIENCE)[0]:
        chunk = os.read(0, 1 << 16)
        *whole, buffer = (buffer + chunk).split(b"\n")
        yield from (line.decode() for line in whole)
        if not chunk:
            return


def main() -> None:
    orders = lines()
    order = json.loads(next(orders))
    try:
        peer = Peer(order)
        hindrance = peer.serve()
        become(order["user"])
    except (OSError, KeyError, ssl.SSLError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    peer.say(ready=True, hindrance=hindrance, port=peer.port)
    peer.work(orders)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # whatever a thread still waits for
