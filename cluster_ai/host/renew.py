"""Renews this host's certificate at the issuer on the head host, in the middle of its life; a timer asks often enough.

Units that run take the new files up by themselves. Where the certificate has ended meanwhile, since this host was off
for longer than that lives, the issuer can't know it any more: the next `cluster-ai apply` gives it one.
"""

from __future__ import annotations

import http.client
import json
import ssl
import tempfile
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from cluster_ai import layout
from cluster_ai.deploys import receiver
from cluster_ai.errors import HostError
from cluster_ai.settings import RenewSettings
from cluster_ai.tls.live import Live, worded
from cluster_ai.tls.validity import Validity, of_pem

TIMEOUT = 30  # seconds
FILES = (layout.CA_CERT, layout.CERT, layout.KEY, layout.HOSTS)
RESTART = 60.0  # seconds within which an issuer that restarts, as with a new key of its own, listens again


def renew(told: RenewSettings, state: Path, *, now: bool) -> str:
    """What was done. state: the folder in which layout.TLS is. now: whatever its age. Raises HostError."""
    place = state / layout.TLS.relative_to(layout.STATE)
    life = _life(place / layout.CERT)
    at = time.time()
    if life.end <= at:
        raise HostError(
            f"this host's certificate has ended {_days(at - life.end)} ago, so that it can't ask for another one",
            where=str(place),
            remedy="if this host's clock is off, set it (timedatectl); else: cluster-ai apply gives it a new one",
        )
    if not now and life.end - at > (life.end - life.begin) / 2:
        return f"valid for another {_days(life.end - at)}: not renewed yet"
    files = _usable(_ask(told, place), f"{told.issuer}:{told.port}")
    try:
        receiver.certificates(state, files, layout.TLS_GROUP)
    except (receiver.RefusedError, OSError) as error:
        raise HostError(f"the new certificate can't be put there: {error}", where=str(state)) from error
    fresh = _life(place / layout.CERT)
    return f"renewed: valid for {_days(fresh.end - at)}"


def _ask(told: RenewSettings, place: Path) -> Mapping[str, object]:
    where = f"{told.issuer}:{told.port}"
    try:
        connection = _connected(told, place)
        try:
            connection.request("GET", layout.ISSUER_PATH)
            reply = connection.getresponse()
            said = dict[str, object](json.loads(reply.read()))
        finally:
            connection.close()
    except ssl.SSLError as error:
        raise HostError(
            f"the head host isn't trusted, or doesn't trust this one: {worded(error)}", where=where
        ) from error
    except (OSError, ValueError, TypeError, http.client.HTTPException) as error:
        raise HostError(
            f"gives no certificate: {error}", where=where, remedy=f"on the head host: journalctl -u {layout.ISSUER}"
        ) from error
    if reply.status != HTTPStatus.OK:
        raise HostError(f"gives no certificate: {said.get('error', reply.status)}", where=where)
    return said


def _usable(said: Mapping[str, object], where: str) -> dict[str, str]:
    """Of an answer the files that are wanted, and no others: as root, what the head names would be written.

    Raises HostError where what runs here couldn't use them.
    """
    files = {name: text for name in FILES if isinstance(text := said.get(name), str)}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in FILES:
                (Path(folder) / name).write_text(files[name])
            Live(Path(folder), server=True)
    except (KeyError, OSError, ValueError) as error:
        raise HostError(f"gives files that can't be used: {error}", where=where) from error
    return files


def _connected(told: RenewSettings, place: Path) -> http.client.HTTPSConnection:
    end = time.monotonic() + RESTART
    while True:
        connection = http.client.HTTPSConnection(
            told.issuer, told.port, timeout=TIMEOUT, context=Live(place, server=False)
        )
        try:
            connection.connect()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
        else:
            return connection


def _life(cert: Path) -> Validity:
    try:
        return of_pem(cert.read_text())
    except (OSError, ValueError) as error:
        raise HostError(
            f"this host's certificate can't be read: {error}",
            where=str(cert),
            remedy="cluster-ai apply gives it a new one",
        ) from error


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days"
