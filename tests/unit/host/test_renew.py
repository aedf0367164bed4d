"""A host renews its certificate at a real issuer, over mutual TLS."""

from __future__ import annotations

import errno
import grp
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cluster_ai import layout
from cluster_ai.deploys import receiver
from cluster_ai.errors import HostError
from cluster_ai.host.issuer import Issuer, Server
from cluster_ai.host.renew import FILES, renew
from cluster_ai.security import ca
from cluster_ai.settings import IssuerSettings, Registered, RenewSettings
from cluster_ai.tls.live import Live

OURS = grp.getgrgid(os.getgid()).gr_name


@dataclass
class Site:
    """A head host that issues, and a worker h2."""

    root: ca.Pair
    issuing: ca.Pair
    head: Path  # state folders
    worker: Path
    told: RenewSettings

    def give(self, state: Path, name: str, hosts: str, *, now: datetime | None = None) -> None:
        pair = ca.issue(self.issuing, name, ["127.0.0.1"], "worker", now=now)
        files = {
            layout.CA_CERT: self.root.cert,
            layout.CERT: pair.cert,
            layout.KEY: pair.key,
            layout.HOSTS: hosts.encode(),
        }
        receiver.certificates(state, {it: text.decode() for it, text in files.items()}, OURS)

    def end(self) -> datetime:
        return ca.expiry((self.worker / "tls/current" / layout.CERT).read_bytes())


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(layout, "TLS_GROUP", OURS)
    root = ca.create("test")
    issuing = ca.delegate(root, "test")
    keys = tmp_path / "keys"
    for folder in (keys, tmp_path / "head", tmp_path / "worker"):
        folder.mkdir()
    (keys / layout.ISSUING_CERT).write_bytes(issuing.cert)
    (keys / layout.ISSUING_KEY).write_bytes(issuing.key)
    made = Site(root, issuing, tmp_path / "head", tmp_path / "worker", RenewSettings("127.0.0.1", 0))
    made.give(made.head, "h1", "h1\nh2\n")
    made.give(made.worker, "h2", "h1\nh2\n")
    hosts = (Registered("h1", "head", ("127.0.0.1",)), Registered("h2", "worker", ("127.0.0.1", "h2.test")))
    issuer = Issuer(IssuerSettings(0, hosts), keys, made.head / "tls/current")
    with Server(0, issuer, Live(made.head / "tls/current", server=True)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        made.told = RenewSettings("127.0.0.1", server.socket.getsockname()[1])
        yield made
        server.shutdown()
        thread.join()


def test_a_young_certificate_is_left_and_one_past_its_half_is_renewed(site: Site) -> None:
    before = site.end()
    assert "not renewed yet" in renew(site.told, site.worker, now=False)
    assert site.end() == before
    site.give(site.worker, "h2", "h1\nh2\n", now=datetime.now(UTC) - timedelta(days=4))
    assert "renewed" in renew(site.told, site.worker, now=False)
    assert site.end() - datetime.now(UTC) > timedelta(days=6)
    assert (
        len([it for it in (site.worker / "tls").iterdir() if not it.is_symlink()]) == 2
    )  # and the one before, which somebody may still read


def test_an_issuer_that_just_restarts_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    connect = socket.create_connection

    def restarting(address: tuple[str, int], *given: Any, **named: Any) -> socket.socket:
        tries.append(address[1])
        if len(tries) < 3:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return connect(address, *given, **named)

    monkeypatch.setattr(socket, "create_connection", restarting)
    assert "renewed" in renew(site.told, site.worker, now=True)
    assert len(tries) == 3


def test_a_host_gets_the_names_of_the_cluster_and_a_certificate_for_itself_alone(site: Site) -> None:
    site.give(site.head, "h1", "h1\nh2\nh3\n")
    renew(site.told, site.worker, now=True)
    assert (site.worker / "tls/current" / layout.HOSTS).read_text().split() == ["h1", "h2", "h3"]
    cert = (site.worker / "tls/current" / layout.CERT).read_bytes()
    assert ca.common_name(cert) == "h2"
    names = x509.load_pem_x509_certificate(cert).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["h2.test"]


def test_a_host_that_left_the_cluster_gets_none(site: Site) -> None:
    site.give(site.head, "h1", "h1\n")
    before = site.end()
    with pytest.raises(HostError):
        renew(site.told, site.worker, now=True)
    assert site.end() == before


def test_one_that_was_off_for_too_long_is_told_what_helps(site: Site) -> None:
    site.give(site.worker, "h2", "h1\nh2\n", now=datetime.now(UTC) - timedelta(days=30))
    with pytest.raises(HostError, match="has ended") as caught:
        renew(site.told, site.worker, now=False)
    assert "apply" in caught.value.remedy
    assert "clock" in caught.value.remedy


def test_a_clock_that_is_behind_is_told_as_that(site: Site) -> None:
    site.give(site.head, "h1", "h1\nh2\n", now=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(HostError, match="clock"):
        renew(site.told, site.worker, now=True)


def test_an_old_cas_key_is_on_no_host_and_the_issuer_says_so(site: Site, tmp_path: Path) -> None:
    (tmp_path / "keys" / layout.ISSUING_KEY).write_bytes(b"")
    told = IssuerSettings(0, (Registered("h2", "worker", ("h2",)),))
    status, said = Issuer(told, tmp_path / "keys", site.head / "tls/current").answer("h2")
    assert status == 503
    assert "certs rotate root" in said["error"]


def answering(monkeypatch: pytest.MonkeyPatch, changed: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """An issuer that somebody has taken over."""
    answer = Issuer.answer

    def other(self: Issuer, name: str) -> tuple[HTTPStatus, dict[str, str]]:
        status, said = answer(self, name)
        return status, changed(said)

    monkeypatch.setattr(Issuer, "answer", other)


def test_of_what_the_issuer_says_only_the_files_of_a_certificate_are_written(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, lambda said: {**said, "../../stamp": "planted", "more.pem": "planted"})
    assert "renewed" in renew(site.told, site.worker, now=True)
    assert {it.name for it in (site.worker / "tls/current").iterdir()} == set(FILES)
    assert not list(site.worker.rglob("*stamp*"))


@pytest.mark.parametrize("name", FILES[:3])
def test_what_nothing_here_could_use_is_not_taken(site: Site, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    other = ca.issue(site.issuing, "h2", ["h2"], "worker")
    wrong = {layout.CA_CERT: "", layout.CERT: other.cert.decode(), layout.KEY: other.key.decode()}[name]
    answering(monkeypatch, lambda said: {**said, name: wrong})
    before = (site.worker / "tls/current" / layout.CERT).read_bytes()
    with pytest.raises(HostError, match="can't be used"):
        renew(site.told, site.worker, now=True)
    assert (site.worker / "tls/current" / layout.CERT).read_bytes() == before
