"""The gateway, as commands ask it: which one is meant, in whose name, and what it refuses, worded for people."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from cluster_ai.cli import logins
from cluster_ai.cli.monitoring import local_of
from cluster_ai.errors import ClusterAIError, ConfigError, UnavailableError, UsageError
from cluster_ai.landing import DamagedError, Landing
from cluster_ai.tls.live import worded
from cluster_ai.tls.trust import ROOTS, trusting

if TYPE_CHECKING:
    from cluster_ai.cli.main import Invocation

TOKEN = "CLUSTER_AI_TOKEN"  # noqa: S105 (a variable's name)
CONNECT, ANSWER = 5.0, 600.0  # seconds; a model that isn't loaded lets one wait
_LOGIN = ("/api/v1/login",)
_PROVIDER = "/api/v1/login/oidc"
_LISTS = (  # the first that fits
    ("/api/v1/models/", "cluster-ai models list shows the models"),
    ("/api/v1/tasks/", "cluster-ai tasks list shows the tasks"),
    ("/api/v1/users/", "cluster-ai users list shows the users"),
    ("/api/v1/keys/", "cluster-ai keys list shows the keys"),
    ("/api/v1/", ""),
    ("/v1/batches/", "cluster-ai batch list shows the batches"),
    ("/v1/files", ""),
)

GatewayUrl = Annotated[
    str | None, typer.Option("--gateway", metavar="URL", help="Another gateway than that of cluster.yaml.")
]


@dataclass
class Client:
    """The part of Ollama's API that a conversation needs."""

    url: str
    token: str | None
    roots: Path | None = None  # a PEM file with CAs that are trusted beside this machine's
    worker: str = ""  # who gave the last answer
    clock_ahead: float = 0.0  # seconds that the gateway's clock is ahead of this machine's, by its last answer

    def logged_in(self) -> str | None:
        """The token of whoever logged in here at this gateway, renewed where it is due; None: nobody did."""

        def renew(refresh: str) -> logins.Login | None:
            try:
                asked = Client(self.url, None, self.roots)
                return logins.login_of(asked.ask("POST", "/api/v1/login/refresh", {"refresh": refresh}))
            except RefusedError:
                return None

        return logins.token(self.url, renew)

    def first_model(self) -> str:
        with self._request("GET", "/api/tags") as reply:
            models = json.loads(reply.read()).get("models") or []
        if not models:
            raise UnavailableError("has no model", where=self.url, remedy="cluster-ai models list shows where they are")
        return str(models[0]["name"])

    def chat(self, model: str, messages: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
        body = {"model": model, "messages": list(messages), "stream": True}
        yield from self.stream("/api/chat", body)

    def stream(self, path: str, body: Mapping[str, Any], worker: str = "") -> Iterator[dict[str, Any]]:
        """The pieces of an answer in Ollama's form. worker: the one that is to give it; empty: any.

        Raises UnavailableError where it breaks off, or an engine says that it can't go on.
        """
        with self._request("POST", path, body, {"X-Cluster-Worker": worker} if worker else None) as reply:
            self.worker = reply.headers.get("x-cluster-worker", "")
            done = False
            for piece in self._pieces(reply):
                if "error" in piece:
                    raise UnavailableError(str(piece["error"]), where=self.url)
                done = bool(piece.get("done"))
                yield piece
        if not done:
            raise self._broken()

    def ask(self, method: str, path: str, body: Any = None, *, timeout: float = ANSWER) -> Any:
        """Of the native API's administration; None where the answer is empty."""
        with self._request(method, path, body, timeout=timeout) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def ask_once(self, path: str, key: str, body: Any) -> Any:
        """A POST that, asked again with the same key, is answered as the first time."""
        with self._request("POST", path, body, {"Idempotency-Key": key}) as reply:
            return json.loads(reply.read())

    def upload(self, name: str, content: bytes) -> str:
        """The id of a file, as OpenAI's API has them, to make a batch of."""
        boundary = secrets.token_hex(16)
        form = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        )
        whole = form.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        with self._request("POST", "/v1/files", whole, kind) as reply:
            return str(json.loads(reply.read())["id"])

    def download(self, file: Mapping[str, Any], to: Path | IO[bytes]) -> None:
        """What is in a file; taken up again where it breaks off. Raises OSError where it can't be written.

        Raises UnavailableError where it breaks off for good, or isn't what its digest says.
        """
        with Landing(file["sha256"], file["bytes"], to) as landing:
            while not landing.whole:
                before = landing.have
                with self._request("GET", f"/v1/files/{file['id']}/content", more=landing.headers) as reply:
                    landing.begin(partial=reply.status == http.HTTPStatus.PARTIAL_CONTENT)
                    while piece := self._piece(reply):
                        landing.write(piece)
                if landing.have == before:
                    raise self._broken()
            try:
                landing.finish()
            except DamagedError as error:
                raise UnavailableError(str(error), where=f"{self.url} {file['id']}", remedy="ask again") from error

    @staticmethod
    def _piece(reply: http.client.HTTPResponse) -> bytes:
        """Empty at its end, however that came."""
        try:
            return reply.read1(1 << 20)
        except (OSError, http.client.HTTPException):
            return b""

    def lines(self, path: str) -> Iterator[Any]:
        """Of an answer that is JSON, line by line. Raises UnavailableError where it breaks off."""
        with self._request("GET", path) as reply:
            yield from self._pieces(reply)

    def _pieces(self, reply: http.client.HTTPResponse) -> Iterator[Any]:
        try:
            yield from map(json.loads, reply)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken() from error

    def _broken(self) -> UnavailableError:
        return UnavailableError("the answer broke off", where=self.url, remedy="ask again")

    def _request(
        self,
        method: str,
        path: str,
        body: Any = None,
        more: Mapping[str, str] | None = None,
        *,
        timeout: float = ANSWER,
    ) -> http.client.HTTPResponse:
        parts = urlsplit(self.url)
        # A connection that the gateway keeps open would stay open here too, once its answer is read.
        headers = {"Content-Type": "application/json", "Connection": "close", **(more or {})}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
            connection.connect()
            connection.sock.settimeout(timeout)
            text = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, parts.path.rstrip("/") + path, text, headers)
            reply = connection.getresponse()
        except ssl.SSLError as error:
            raise self._strange(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"the gateway doesn't answer ({error})",
                where=self.url,
                remedy="cluster-ai status shows how it is; --gateway names another",
            ) from error
        told = reply.headers.get("date")
        if told:
            self.clock_ahead = parsedate_to_datetime(told).timestamp() - time.time()
        if not 200 <= reply.status < 300:
            raise self._refused(reply, path)
        return reply

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=CONNECT)
        return http.client.HTTPSConnection(host, port, timeout=CONNECT, context=trusting(self.roots))

    def _strange(self, error: ssl.SSLError) -> UnavailableError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return UnavailableError(
                f"the gateway's certificate isn't trusted here: {worded(error)}",
                where=self.url,
                remedy="beside the cluster's cluster.yaml: cluster-ai certs ca > ca.pem; here: SSL_CERT_FILE=ca.pem",
            )
        return UnavailableError(
            f"no TLS with the gateway: {worded(error)}",
            where=self.url,
            remedy="where security.tls.enabled is false in its cluster.yaml, its address begins with http://",
        )

    def _refused(self, reply: http.client.HTTPResponse, path: str) -> ClusterAIError:
        text = reply.read().decode(errors="replace")
        reply.close()
        try:
            said = json.loads(text)["error"]
            text = str(said["message"] if isinstance(said, dict) else said)
        except (ValueError, KeyError, TypeError):
            pass
        remedies = {401: f"cluster-ai login, or set {TOKEN}", 503: "try again in a moment", 404: _list_of(path)}
        if path == _PROVIDER:
            remedies |= {401: "cluster-ai login --oidc, once more", 404: "cluster-ai login USER, with a password"}
        if path in _LOGIN:
            remedies[401] = (
                "check the name and the password; an administrator can set a new one: cluster-ai users passwd"
            )
        kinds: dict[int, type[ClusterAIError]] = dict.fromkeys((400, 404, 409, 413), UsageError)
        kinds[401] = RefusedError
        kind = kinds.get(reply.status, UnavailableError)
        return kind(
            f"{text.strip()[:500]} (HTTP {reply.status})", where=self.url, remedy=remedies.get(reply.status, "")
        )


def _list_of(path: str) -> str:
    """What to do where something that a path names isn't there."""
    for prefix, remedy in _LISTS:
        if path.startswith(prefix):
            return remedy
    return "cluster-ai models list shows the models"  # all other paths are asked for an answer


class RefusedError(UnavailableError):
    """The gateway doesn't know who asks."""


def chosen(models: Sequence[str], there: Iterable[str]) -> list[str]:
    """Full names of the models that are named; none named: all that are there. Raises UsageError."""
    known = list(there)
    full = {name: name if ":" in name else f"{name}:latest" for name in models}
    for name in models:
        if full[name] not in known:
            raise UsageError(f"there is no model {name!r}", remedy=f"there are: {', '.join(known) or 'none'}")
    return [full[name] for name in models] or known


def find(invocation: Invocation, url: str | None, *, own: bool = True) -> Client:
    """The gateway that is meant; own: with the token of whoever asks, if they have one."""
    told = os.environ.get(TOKEN) or ""
    if own and not told and not logins.anywhere():
        return _found(invocation, url, None)
    client = _found(invocation, url, told)
    if not own:
        return Client(client.url, None, client.roots)
    if told:
        return client
    login = client.logged_in()
    if login is None:
        _left_behind(client.url)
        return _found(invocation, url, None)
    return Client(client.url, login, client.roots)


def _left_behind(url: str) -> None:
    """Whoever logged in before this gateway spoke TLS must not become another by that: UnavailableError tells them."""
    before = logins.before_tls(url)
    if before is not None:
        raise UnavailableError(
            f"{before.user} logged in here before the gateway spoke TLS, and that login isn't sent to another address",
            where=url,
            remedy="cluster-ai login, or cluster-ai logout, which forgets the old one",
        )


def _found(invocation: Invocation, url: str | None, token: str | None) -> Client:
    """token None: the one that lies beside cluster.yaml."""
    if url is not None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise typer.BadParameter("must be http://host:port, or https://...", param_hint="--gateway")
        return Client(url, token, invocation.config_path.resolve().parent / ROOTS)
    local = local_of(invocation)
    if local is not None:
        return Client(local.gateway, token or local.token)
    if not invocation.config_path.exists():
        raise ConfigError(
            "there is no such file, and no cluster is up on this machine",
            where=str(invocation.config_path),
            remedy="cluster-ai up starts one; --config names another file, --gateway a gateway",
        )
    config = invocation.config()
    if token is None:
        from cluster_ai.rollout import credentials

        token = credentials.token(config)
    return Client(config.gateway_url, token, invocation.config_path.resolve().parent / ROOTS)
