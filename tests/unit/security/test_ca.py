from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.security import ca
from cluster_ai.security.ca import Pair


class End:
    """One end of a connection: its files, and its context."""

    def __init__(self, folder: Path, authority: bytes, pair: Pair | None) -> None:
        folder.mkdir()
        (folder / "ca.pem").write_bytes(authority)
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        self.has = pair is not None
        if pair is not None:
            self.cert.write_bytes(pair.cert)
            self.key.write_bytes(pair.key)

    def context(self, side: ssl._SSLMethod) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(self.ca)
        if self.has:
            context.load_cert_chain(self.cert, self.key)
        return context


def handshake(server: End, client: End, name: str) -> tuple[str | None, str]:
    """A real connection; returns the TLS version and the server's answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    with server.context(ssl.PROTOCOL_TLS_SERVER).wrap_socket(connection, server_side=True) as secured:
                        peer: Any = secured.getpeercert()
                        subject = dict(item[0] for item in peer["subject"])
                        secured.sendall(str(subject["organizationalUnitName"]).encode())
                except ssl.SSLError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 60) as plain,
                client.context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain, server_hostname=name) as secured,
            ):
                return secured.version(), secured.recv(100).decode()
        finally:
            thread.join(60)


@pytest.fixture(scope="module")
def authority() -> Pair:
    return ca.create("test")


def test_hosts_of_different_issuing_cas_meet_where_they_trust_both_roots(tmp_path: Path) -> None:
    """The middle of a change of the root: one host has its new certificate already."""
    old, new = ca.create("test"), ca.create("test")
    both = old.cert + new.cert
    one = ca.issue(ca.delegate(old, "test"), "w1", ["w1.test"], "worker")
    other = ca.issue(ca.delegate(new, "test"), "head", ["10.0.0.1"], "head")
    server, client = End(tmp_path / "one", both, one), End(tmp_path / "other", both, other)
    assert handshake(server, client, "w1.test") == ("TLSv1.3", "head")
    late = End(tmp_path / "late", new.cert, other)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, late, "w1.test")


@pytest.fixture
def worker(authority: Pair, tmp_path: Path) -> End:
    return End(tmp_path / "worker", authority.cert, ca.issue(authority, "w1", ["10.0.0.2", "w1.test"], "worker"))


@pytest.fixture
def head(authority: Pair, tmp_path: Path) -> End:
    return End(tmp_path / "head", authority.cert, ca.issue(authority, "head", ["10.0.0.1"], "head"))


@pytest.mark.parametrize("name", ["10.0.0.2", "w1.test"])
def test_hosts_of_one_ca_meet_in_tls_1_3_and_know_each_others_role(worker: End, head: End, name: str) -> None:
    assert handshake(worker, head, name) == ("TLSv1.3", "head")


def test_a_certificate_holds_for_its_own_names_alone(worker: End, head: End) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(worker, head, "10.0.0.3")


def test_a_host_without_a_certificate_or_with_anothers_is_refused(authority: Pair, worker: End, tmp_path: Path) -> None:
    foreign = ca.issue(ca.create("test"), "head", ["10.0.0.1"], "head")
    for name, pair in (("none", None), ("foreign", foreign)):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            assert handshake(worker, End(tmp_path / name, authority.cert, pair), "w1.test")[1]


def test_a_hosts_certificate_signs_no_others(authority: Pair, worker: End, tmp_path: Path) -> None:
    stolen = Pair(worker.cert.read_bytes(), worker.key.read_bytes())
    forged = ca.issue(stolen, "head", ["10.0.0.1"], "head")
    chain = Pair(forged.cert + stolen.cert, forged.key)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        assert handshake(worker, End(tmp_path / "forged", authority.cert, chain), "w1.test")[1]


def test_a_certificate_ends_after_a_week_and_began_before_now(authority: Pair) -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    cert = ca.issue(authority, "w1", ["w1"], "worker", now=now).cert
    assert ca.expiry(cert) == now + timedelta(days=7)
    from cryptography import x509

    assert x509.load_pem_x509_certificate(cert).not_valid_before_utc == now - timedelta(minutes=5)
    assert ca.expiry(authority.cert) > now + timedelta(days=3000)


def test_long_names_fit(authority: Pair) -> None:
    assert ca.issue(ca.create("x" * 100), "y" * 100, ["y.test"], "worker").cert


def test_no_certificate_outlives_the_ca_by_which_it_is_believed() -> None:
    begin = datetime.now(UTC) - ca.ISSUING_LIFETIME + timedelta(days=2)
    issuing = ca.delegate(ca.create("test", now=begin), "test", now=begin)
    assert ca.expiry(ca.issue(issuing, "h1", ["h1"], "worker").cert) == ca.expiry(issuing.cert)
