"""A registry of models on loopback, over what an engine has on its disk: enough for Ollama to pull from."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextlib.contextmanager
def registry(models: Path) -> Iterator[str]:
    """models: an engine's OLLAMA_MODELS. Yields host:port, which a model's name begins with."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            found = _content(models, self.path)
            if found is None:
                self.send_error(404)
                return
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            part = found[int(asked[1]) : int(asked[2]) + 1] if asked else found
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if body:
                self.wfile.write(part)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, name="registry")
    serving.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def _content(models: Path, path: str) -> bytes | None:
    asked = re.fullmatch(r"/v2/(\w+/\w+)/(manifests|blobs)/([\w:]+)", path)
    if asked is None:
        return None
    if asked[2] == "blobs":
        file = models / "blobs" / asked[3].replace(":", "-")
    else:
        file = models / "manifests" / "registry.ollama.ai" / asked[1] / asked[3]
    return file.read_bytes() if file.is_file() else None
