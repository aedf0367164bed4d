from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_ai.errors import UnavailableError
from cluster_ai.rollout.on_head import OnHead
from tests.rig.processes import free_port

SSH = ("sh", "-c", 'eval "$0"')  # runs what it is given here, as ssh does there


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        said = f"{self.path} {self.headers['Authorization']} {body}".encode()
        self.send_response(418)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_request_is_made_there_with_the_token_that_is_there(port: int, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    here = OnHead("h1", SSH)
    status, text = here.ask(
        "POST", port, "/x?y=1", '{"a": "b c"}', what="it", unit="it.service", token_file=str(tmp_path / "token")
    )
    assert (status, text) == (418, '/x?y=1 Bearer secret {"a": "b c"}')


def test_where_nothing_listens_the_error_says_who_and_what_to_do() -> None:
    with pytest.raises(UnavailableError) as caught:
        OnHead("h1", SSH).ask("GET", free_port(), "/", what="Prometheus", unit="p.service")
    assert caught.value.what.startswith("Prometheus doesn't answer: ")
    assert (caught.value.where, caught.value.remedy) == ("h1", "on it: journalctl -u p.service")
