"""A small OpenID provider: authorization code with PKCE, ID tokens that are really signed, and a person who agrees."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

SECRET = "the-dashboards-secret"


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Provider:
    """claims: of the person who is at the browser. clients: those that must show SECRET; others need none."""

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    confidential: tuple[str, ...] = ()
    key: rsa.RSAPrivateKey = field(default_factory=new_key)
    kid: str = "one"
    asked: list[str] = field(default_factory=list)  # paths
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def token(self, audience: str | list[str], *, key: Any = None, alg: str = "RS256", **changed: Any) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": audience, "iat": now, "exp": now + 300, **self.claims, **changed}
        return jwt.encode(claims, key or self.key, algorithm=alg, headers={"kid": self.kid})

    def answer(self, path: str, asked: dict[str, str], authorization: str) -> tuple[HTTPStatus, dict[str, Any] | str]:
        """JSON, or an address to go to."""
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            return HTTPStatus.OK, {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "code_challenge_methods_supported": ["S256"],
            }
        if path == "/keys":
            jwk = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
            return HTTPStatus.OK, {"keys": [{**jwk, "kid": self.kid, "use": "sig", "alg": "RS256"}]}
        if path == "/authorize":
            code = secrets.token_urlsafe(16)
            self._codes[code] = asked
            back = {"code": code, "state": asked["state"]} if self.claims else {"error": "access_denied"}
            return HTTPStatus.FOUND, f"{asked['redirect_uri']}?{urlencode({'state': asked['state'], **back})}"
        if path == "/token":
            return self._exchange(asked, authorization)
        return HTTPStatus.NOT_FOUND, {"error": "not_found"}

    def _exchange(self, asked: dict[str, str], authorization: str) -> tuple[HTTPStatus, dict[str, Any]]:
        begun = self._codes.pop(asked.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(asked.get("code_verifier", "").encode()).digest())
        if begun is None or begun["redirect_uri"] != asked["redirect_uri"]:
            return HTTPStatus.BAD_REQUEST, {"error": "invalid_grant"}
        if begun.get("code_challenge") != challenge.rstrip(b"=").decode():
            return HTTPStatus.BAD_REQUEST, {"error": "invalid_grant", "error_description": "PKCE"}
        client = begun["client_id"]
        basic = base64.b64encode(f"{client}:{SECRET}".encode()).decode()
        if client in self.confidential and authorization != f"Basic {basic}" and asked.get("client_secret") != SECRET:
            return HTTPStatus.UNAUTHORIZED, {"error": "invalid_client"}
        token = self.token(client, **({"nonce": begun["nonce"]} if "nonce" in begun else {}))
        return HTTPStatus.OK, {"access_token": "unused", "token_type": "Bearer", "id_token": token}


@contextlib.contextmanager
def provider(context: ssl.SSLContext | None = None) -> Iterator[Provider]:
    """context: of its TLS; None: plain HTTP."""
    it = Provider()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def _answer(self, query: str) -> None:
            path = urlsplit(self.path).path
            status, said = it.answer(path, dict(parse_qsl(query)), self.headers.get("Authorization", ""))
            body = b"" if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(status)
            if isinstance(said, str):
                self.send_header("Location", said)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        it.issuer = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield it
        server.shutdown()
        thread.join()
