from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster_ai.cli.gateway import Client
from cluster_ai.cli.main import main
from cluster_ai.errors import UsageError


class _Nothing(BaseHTTPRequestHandler):
    """Has nothing of what it is asked for."""

    def do_GET(self) -> None:
        body = json.dumps({"error": "not found"}).encode()
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Nothing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("/api/v1/models/x/explain", "cluster-ai models list shows the models"),
        ("/api/v1/tasks/x", "cluster-ai tasks list shows the tasks"),
        ("/api/v1/users/x", "cluster-ai users list shows the users"),
        ("/api/v1/keys/x", "cluster-ai keys list shows the keys"),
        ("/v1/batches/x", "cluster-ai batch list shows the batches"),
        ("/v1/files/x/content", ""),
        ("/api/v1/sessions/x", ""),
        ("/api/chat", "cluster-ai models list shows the models"),
    ],
)
def test_what_is_not_there_is_told_with_the_list_of_its_kind(url: str, path: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        Client(url, None).ask("GET", path)
    assert caught.value.remedy == remedy


def test_where_there_is_no_cluster_a_newcomer_is_told_of_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["models", "list"]) == 65
    assert "no cluster is up on this machine\n  -> cluster-ai up starts one" in capsys.readouterr().err
