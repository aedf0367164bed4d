"""People are shown the certificate that the files hold when a connection begins, over TLS 1.3 and nothing older."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.errors import ConfigError
from cluster_ai.security import ca
from cluster_ai.tls.public import public
from cluster_ai.tls.trust import trusting

ROOT = ca.create("test")
ISSUING = ca.delegate(ROOT, "test")


def put(place: Path, cert: str, key: str) -> ca.Pair:
    pair = ca.issue(ISSUING, "head", ["127.0.0.1"], "head")
    place.mkdir(exist_ok=True)
    (place / key).write_bytes(pair.key)
    (place / cert).write_bytes(pair.cert)
    return pair


@contextlib.contextmanager
def serving(context: ssl.SSLContext) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as it:
                    it.sendall(b"hello")

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def shown(port: int, client: ssl.SSLContext) -> bytes:
    """The certificate, DER."""
    with (
        socket.create_connection(("127.0.0.1", port), 60) as plain,
        client.wrap_socket(plain, server_hostname="127.0.0.1") as it,
    ):
        assert it.recv(5) == b"hello"
        return it.getpeercert(binary_form=True) or b""


@pytest.fixture
def client(tmp_path: Path) -> ssl.SSLContext:
    (tmp_path / "root.pem").write_bytes(ROOT.cert)
    return trusting(tmp_path / "root.pem")


def test_a_renewed_certificate_is_shown_to_the_next_client_and_half_of_one_to_nobody(
    tmp_path: Path, client: ssl.SSLContext
) -> None:
    first = put(tmp_path / "tls", layout.CERT, layout.KEY)
    with serving(public("host", {layout.TLS_VARIABLE: str(tmp_path / "tls")})) as port:
        assert shown(port, client) == _der(first)
        (tmp_path / "tls" / layout.KEY).write_bytes(ca.issue(ISSUING, "head", ["127.0.0.1"], "head").key)
        assert shown(port, client) == _der(first)
        second = put(tmp_path / "tls", layout.CERT, layout.KEY)
        assert shown(port, client) == _der(second) != _der(first)


def test_one_that_was_given_lies_among_the_credentials(tmp_path: Path, client: ssl.SSLContext) -> None:
    given = put(tmp_path / "credentials", layout.PUBLIC_CERT, layout.PUBLIC_KEY)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"), layout.TLS_VARIABLE: str(tmp_path)}
    with serving(public("given", environment)) as port:
        assert shown(port, client) == _der(given)


def test_a_client_that_knows_no_newer_than_tls_1_2_is_refused(tmp_path: Path, client: ssl.SSLContext) -> None:
    put(tmp_path / "tls", layout.CERT, layout.KEY)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        serving(public("host", {layout.TLS_VARIABLE: str(tmp_path / "tls")})) as port,
        pytest.raises(ssl.SSLError, match=r"(?i)protocol"),
    ):
        shown(port, client)


@pytest.mark.parametrize("environment", [{}, {layout.TLS_VARIABLE: "/nowhere"}])
def test_without_a_certificate_nothing_is_served_in_clear_instead(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="certificate for people"):
        public("host", environment)


def _der(pair: ca.Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(ca.split(pair.cert)[0].decode())
