"""On the head host: gives registered hosts new certificates, over mutual TLS 1.3, before their old ones end.

`GET /certificate` is answered to who shows a valid certificate of a host that the cluster has, with one for that host;
nothing else is asked for, or taken from the request. What else a host needs for TLS comes with it: the roots that
count, and the names of all hosts.
"""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cluster_ai import layout
from cluster_ai.deploys.peer import Bounded, Secure
from cluster_ai.security import ca
from cluster_ai.settings import IssuerSettings, Registered
from cluster_ai.tls.live import Live, host_of, worded

PATIENCE = 20  # seconds for a handshake, and for a request
AT_ONCE = 32  # connections


class Issuer:
    """What signs. keys: a folder with the issuing CA; place: this host's own files for TLS."""

    def __init__(self, told: IssuerSettings, keys: Path, place: Path) -> None:
        self._hosts: Mapping[str, Registered] = {host.name: host for host in told.hosts}
        self._place = place
        self._ca = ca.Pair((keys / layout.ISSUING_CERT).read_bytes(), (keys / layout.ISSUING_KEY).read_bytes())

    def answer(self, name: str) -> tuple[HTTPStatus, dict[str, str]]:
        """For the host of that name: files by name, or {"error": ...}."""
        host = self._hosts.get(name)
        if host is None:
            return HTTPStatus.FORBIDDEN, {"error": f"{name} is no host of the cluster"}
        if not self._ca.key:
            why = "this cluster's CA is of the kind that stays off hosts: cluster-ai certs rotate root makes another"
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": why}
        pair = ca.issue(self._ca, host.name, host.sans, host.role)
        common = {it: (self._place / it).read_text() for it in (layout.CA_CERT, layout.HOSTS)}
        return HTTPStatus.OK, {**common, layout.CERT: pair.cert.decode(), layout.KEY: pair.key.decode()}


class Server(Bounded):
    def __init__(self, port: int, issuer: Issuer, context: ssl.SSLContext) -> None:
        super().__init__(port, Answer, context, AT_ONCE)
        self.issuer = issuer

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        text = worded(error) if isinstance(error, ssl.SSLError) else str(error)
        print(f"{client_address[0]}: refused: {text}", flush=True)


class Answer(Secure):
    server: Server
    timeout = handshake = PATIENCE

    def do_GET(self) -> None:  # noqa: N802 (as http.server calls it)
        if self.path != layout.ISSUER_PATH:
            return self.send_error(HTTPStatus.NOT_FOUND)
        name = host_of(self.request.getpeercert())
        status, said = self.server.issuer.answer(name)
        print(f"{self.client_address[0]}: {name}: {said.get('error', 'renewed')}", flush=True)
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None


def serve(told: IssuerSettings, keys: Path, place: Path) -> None:
    """Until the process is told to end."""
    Server(told.port, Issuer(told, keys, place), Live(place, server=True)).serve_forever()
