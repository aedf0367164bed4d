"""A person's ID token, got from an OpenID provider in their browser: authorization code with PKCE (RFC 8252, RFC 7636).

The provider sends the browser back to a port of this machine's loopback, where one request is answered.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import secrets
import sys
import threading
import urllib.error
import urllib.request
import webbrowser
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from cluster_ai.errors import UnavailableError, UsageError

METADATA = "/.well-known/openid-configuration"
TIMEOUT = 20.0  # seconds for an answer of the provider
PATIENCE = 300.0  # seconds that a person has
_PAGE = b"<!doctype html><meta charset=utf-8><title>Cluster AI</title><p>You may close this page: see your terminal."


class _Waiting(http.server.HTTPServer):
    back = ""  # the path that the browser came back to

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Back)
        self.timeout = PATIENCE

    def handle_timeout(self) -> None:
        raise UnavailableError(f"nobody came back from the provider within {PATIENCE:.0f} s", where="login")


class _Back(http.server.BaseHTTPRequestHandler):
    server: _Waiting
    timeout = 5

    def do_GET(self) -> None:
        found = parse_qs(urlsplit(self.path).query)
        if "state" in found:
            self.server.back = self.path
        self.send_response(200 if "state" in found else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(_PAGE)))
        self.end_headers()
        self.wfile.write(_PAGE)

    def log_message(self, *_: object) -> None:
        pass


def id_token(issuer: str, client_id: str, *, paste: bool) -> str:
    """paste: the person copies the address that the browser ended at. Raises UnavailableError, UsageError."""
    verifier, nonce, state = (secrets.token_urlsafe(48) for _ in range(3))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    try:
        metadata = _asked(issuer.rstrip("/") + METADATA)
        with _Waiting() as waiting:
            redirect = f"http://127.0.0.1:{waiting.server_port}"
            asking = {
                "response_type": "code",
                "client_id": client_id,
                "redirect_uri": redirect,
                "scope": "openid profile email",
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
            url = str(metadata["authorization_endpoint"])
            url += f"{'&' if '?' in url else '?'}{urlencode(asking)}"
            back = _pasted(url) if paste else _came_back(waiting, url)
        answer = dict(parse_qsl(urlsplit(back).query))
        if not hmac.compare_digest(answer.get("state", "").encode(), state.encode()):
            raise UsageError("this address is not of this login", remedy="begin anew: cluster-ai login --oidc")
        if "code" not in answer:
            said = answer.get("error_description") or answer.get("error") or "it gives no code"
            raise UnavailableError(f"the provider refuses: {said}", where=issuer)
        given = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": redirect}
        got = _asked(str(metadata["token_endpoint"]), given | {"client_id": client_id, "code_verifier": verifier})
        token = str(got["id_token"])
        own = hmac.compare_digest(str(_claims(token).get("nonce")).encode(), nonce.encode())
    except (OSError, KeyError, ValueError, IndexError, TypeError) as error:
        raise UnavailableError(f"gives no token: {error}", where=issuer, remedy="is security.oidc right?") from error
    if not own:
        raise UnavailableError("gives a token that was made for another login", where=issuer)
    return token


def _asked(url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
    """Raises OSError, ValueError."""
    if not url.startswith("https://"):
        raise ValueError(f"{url} is not encrypted")
    body = urlencode(form).encode() if form else None
    try:
        with urllib.request.urlopen(url, body, timeout=TIMEOUT) as reply:  # noqa: S310 (https://)
            return dict(json.load(reply))
    except urllib.error.HTTPError as error:
        said = error.read(2000).decode(errors="replace")
        raise ValueError(f"{url} answers {error.code}: {said}") from error


def _came_back(waiting: _Waiting, url: str) -> str:
    print(f"Log in here, if your browser doesn't open: {url}", file=sys.stderr)
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()  # some return when they are closed
    while not waiting.back:
        waiting.handle_request()
    return f"http://127.0.0.1:{waiting.server_port}{waiting.back}"


def _pasted(url: str) -> str:
    print(f"Log in here, in any browser: {url}", file=sys.stderr)
    print(
        "It ends at an address that begins with http://127.0.0.1 and can't be shown. Copy it to here:", file=sys.stderr
    )
    return sys.stdin.readline().strip()


def _claims(token: str) -> dict[str, Any]:
    """Unchecked: it came from the provider itself (OpenID Connect Core, 3.1.3.7), and the gateway checks it."""
    body = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))
