"""Fetching a file over connections that break: by both clients for programs, and as the commands do it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import pytest

from cluster_ai.cli.gateway import Client as CommandsClient
from cluster_ai.client import AsyncClient, Client, DamagedError, NotFoundError, UnreachableError
from cluster_ai.client.types import ResultFile
from cluster_ai.errors import ClusterAIError, UnavailableError, UsageError

CONTENT = bytes(range(256)) * 40
FILE = ResultFile("file-1", "result.json", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), 0)
To = Path | IO[bytes]


@contextmanager
def serving(*, at_once: int = len(CONTENT), ranges: bool = True, content: bytes = CONTENT) -> Iterator[str]:
    """A gateway's files, by a server that hangs up after so many bytes of an answer. Yields its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/v1/files/file-1/content":
                self.send_error(404)
                return
            told = self.headers.get("Range", "") if ranges else ""
            begin = int(told.removeprefix("bytes=").removesuffix("-") or 0)
            self.send_response(206 if told else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            self.wfile.write(content[begin : begin + at_once])

        def log_message(self, *said: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def blocking(url: str, file: ResultFile, to: To) -> None:
    with Client(url) as client:
        client.download(file, to)


def waiting(url: str, file: ResultFile, to: To) -> None:
    async def fetched() -> None:
        async with AsyncClient(url) as client:
            await client.download(file, to)

    asyncio.run(fetched())


def command(url: str, file: ResultFile, to: To) -> None:
    asked = {"id": file.id, "filename": file.filename, "bytes": file.bytes, "sha256": file.sha256}
    CommandsClient(url, None).download(asked, to)


everyone = pytest.mark.parametrize("fetch", [blocking, waiting, command])
Fetch = Callable[[str, ResultFile, To], None]


@everyone
def test_one_that_breaks_is_taken_up_where_it_broke(fetch: Fetch, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with serving(at_once=3000) as url:
        fetch(url, FILE, path)
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


@everyone
def test_what_had_come_serves_the_next_try_even_of_a_server_that_begins_anew(fetch: Fetch, tmp_path: Path) -> None:
    path, out = tmp_path / "out", io.BytesIO()
    with serving(at_once=3000, ranges=False) as url, pytest.raises((UnreachableError, UnavailableError)):
        fetch(url, FILE, path)
    (part,) = tmp_path.iterdir()
    assert part.read_bytes() == CONTENT[:3000]
    with serving(ranges=False) as url:
        fetch(url, FILE, path)
        fetch(url, FILE, out)
    assert path.read_bytes() == out.getvalue() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


@everyone
def test_what_is_not_as_promised_is_thrown_away(fetch: Fetch, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    with serving(content=CONTENT[::-1]) as url, pytest.raises((DamagedError, ClusterAIError), match="digest"):
        fetch(url, FILE, path)
    assert [(it, it.read_text()) for it in tmp_path.iterdir()] == [(path, "before")]


@everyone
def test_one_that_is_gone_is_told_and_leaves_nothing(fetch: Fetch, tmp_path: Path) -> None:
    gone = ResultFile("file-2", "result.json", 5, "0" * 64, 0)
    with serving() as url, pytest.raises((NotFoundError, UsageError)):
        fetch(url, gone, tmp_path / "out")
    assert not list(tmp_path.iterdir())
