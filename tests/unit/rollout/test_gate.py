"""The gateway is found at whichever port, and by whichever protocol, the release that runs there has."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from cluster_ai.errors import UnavailableError
from cluster_ai.rollout.gate import Gateway, one_token
from tests.rig.processes import free_port

SSH = ("sh", "-c", 'eval "$0"')  # runs what it is given here, as ssh does there


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._say(b"{}")

    def do_POST(self) -> None:
        """Done for one who wishes for a worker that isn't busy."""
        self._say(json.dumps({"done": self.headers["x-cluster-policy"] == "least_loaded"}).encode())

    def _say(self, text: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def plain() -> Iterator[int]:
    """The port of a gateway from before TLS."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def gateway(port: int, local: int) -> Gateway:
    return Gateway("127.0.0.1", port, None, head="h", argv=SSH, tls=ssl.create_default_context(), local_port=local)


def test_an_older_release_that_speaks_no_tls_is_asked_on_the_head_at_its_only_port(plain: int) -> None:
    it = gateway(plain, free_port())
    assert it.ask("GET", "/") == (200, {})
    assert it.ask("GET", "/") == (200, {})


def test_one_that_went_back_to_it_while_it_was_asked_is_asked_on(plain: int) -> None:
    it = gateway(plain, free_port())
    it._direct = True  # as after an answer over TLS
    assert it.ask("GET", "/") == (200, {})


def test_the_local_port_comes_first_and_what_is_heard_there_is_not_asked_again(plain: int) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        pytest.raises(UnavailableError, match=r"the gateway doesn't answer: .*timed out"),
    ):
        gateway(plain, mute.getsockname()[1]).ask("GET", "/", timeout=0.5)
    assert gateway(free_port(), plain).ask("GET", "/") == (200, {})


def test_a_token_is_asked_of_a_worker_that_is_free_whatever_the_gateways_policy_is(plain: int) -> None:
    for there in (gateway(free_port(), plain), Gateway("127.0.0.1", plain, None, head="h", argv=SSH)):
        assert one_token(there, ["m"], timeout=30) == {}


def test_where_nothing_listens_at_all_that_is_told() -> None:
    with pytest.raises(UnavailableError, match="the gateway doesn't answer"):
        gateway(free_port(), free_port()).ask("GET", "/")
