"""TLS 1.3 between the cluster's hosts, from files that are replaced while processes run.

A host's certificate lives for days, and whoever holds a context holds it for longer. So a context here looks at its
files at each new connection, and takes what is there. Connections that exist go on with what they began with.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cluster_ai import layout

NOT_YET, EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
LONGEST_NAME = 64  # characters of a common name: RFC 5280, ub-common-name


def folder(environ: Mapping[str, str]) -> Path | None:
    """Where this process has its certificate: told by its unit, else beside its other credentials."""
    found = environ.get(layout.TLS_VARIABLE) or environ.get("CREDENTIALS_DIRECTORY")
    return Path(found) if found else None


def registered(place: Path) -> frozenset[str] | None:
    """Names of the hosts whose certificates count; None: every one of the CA's does."""
    try:
        return frozenset((place / layout.HOSTS).read_text().split())
    except FileNotFoundError:
        return None


def host_of(peer: Mapping[str, Any] | None) -> str:
    """Whose certificate it is, as ssl's getpeercert() tells it: its common name. A name that is too long for that
    stands whole among the alternative ones."""
    told = peer or {}
    name = next((value for part in told.get("subject", ()) for key, value in part if key == "commonName"), "")
    if len(name) < LONGEST_NAME:
        return str(name)
    whole = (value for kind, value in told.get("subjectAltName", ()) if kind == "DNS" and value.startswith(name))
    return str(next(whole, name))


def worded(error: ssl.SSLError) -> str:
    """A failed handshake for people. Most that concern dates are a clock's fault."""
    code = getattr(error, "verify_code", 0)
    if code in (NOT_YET, EXPIRED):
        what = "is not valid yet" if code == NOT_YET else "has expired"
        return f"its certificate {what} by this host's clock; if the clock is off, that is why: see timedatectl"
    return str(getattr(error, "verify_message", "") or error.reason or error)


class StrangerError(ssl.SSLCertVerificationError):
    """A certificate of the CA, whose host is no longer of the cluster."""

    def __init__(self, name: str) -> None:
        what = f"the certificate of {name or 'nobody'}, which is no host of the cluster"
        super().__init__(ssl.SSL_ERROR_SSL, what)
        self.library, self.reason = "SSL", "CERTIFICATE_VERIFY_FAILED"  # which OpenSSL's own errors have
        self.verify_code, self.verify_message = 50, what  # X509_V_ERR_APPLICATION_VERIFICATION


class _Context(ssl.SSLContext):
    hosts: frozenset[str] | None = None

    def admit(self, peer: Mapping[str, Any] | None) -> None:
        if self.hosts is not None and (name := host_of(peer)) not in self.hosts:
            raise StrangerError(name)


class _Socket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _admit(self)


class _Object(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        _admit(self)


def _admit(end: ssl.SSLSocket | ssl.SSLObject) -> None:
    if isinstance(end.context, _Context):
        end.context.admit(end.getpeercert())


class Reread(ssl.SSLContext):
    """A context that is made anew, by `load`, when its files are others than they were."""

    def begin(self, files: Iterable[Path]) -> None:
        """Raises what `load` does."""
        self._files = tuple(files)
        self._seen = _state(self._files)
        self._inner = self.load()

    def load(self) -> ssl.SSLContext:
        """May raise OSError or ssl.SSLError."""
        raise NotImplementedError

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return self._fresh().wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self._fresh().wrap_bio(*args, **kwargs)

    def _fresh(self) -> ssl.SSLContext:
        seen = _state(self._files)
        if seen != self._seen:
            with contextlib.suppress(OSError, ValueError):  # in the midst of being replaced: the next one looks again
                self._inner, self._seen = self.load(), seen
        return self._inner


class Live(Reread):
    """A context of mutual TLS 1.3 over the files of a folder, as they are when a connection begins.

    Raises OSError or ssl.SSLError where they can't be used at first; later it goes on with the last that could.
    """

    def __new__(cls, place: Path, *, server: bool, check_hostname: bool = True) -> Live:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, place: Path, *, server: bool, check_hostname: bool = True) -> None:
        self._place, self._server, self._named = place, server, check_hostname and not server
        if not server:
            self.check_hostname = self._named
        self.verify_mode = ssl.CERT_REQUIRED
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        self.begin(place / name for name in (layout.CA_CERT, layout.CERT, layout.KEY, layout.HOSTS))

    def load(self) -> _Context:
        place = self._place.resolve()  # a link that is set anew: all files are of one generation
        made = _Context(ssl.PROTOCOL_TLS_SERVER if self._server else ssl.PROTOCOL_TLS_CLIENT)
        made.sslsocket_class, made.sslobject_class = _Socket, _Object
        made.check_hostname = self._named
        made.verify_mode = ssl.CERT_REQUIRED
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.load_verify_locations(place / layout.CA_CERT)
        made.load_cert_chain(place / layout.CERT, place / layout.KEY)
        made.hosts = registered(place)
        return made


def _state(files: Iterable[Path]) -> tuple[tuple[int, int], ...]:
    """Differs when the files do."""
    found = []
    for path in files:
        try:
            it = path.stat()
        except OSError:
            found.append((0, 0))
        else:
            found.append((it.st_ino, it.st_mtime_ns))
    return tuple(found)
