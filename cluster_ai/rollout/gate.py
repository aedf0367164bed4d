"""The last gate: through the gateway, one token of every model, as a client would ask for it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cluster_ai import layout
from cluster_ai.errors import UnavailableError
from cluster_ai.rollout.on_head import OnHead, RefusedError

if TYPE_CHECKING:
    import ssl

CONNECT = 3.0  # seconds; a firewall that drops must not cost much


class Gateway:
    """The gateway's API from here: directly, or by SSH on the head host where that doesn't get through."""

    def __init__(
        self,
        address: str,
        port: int,
        token: str | None,
        *,
        head: str,
        argv: tuple[str, ...],
        sudo_password: str | None = None,
        tls: ssl.SSLContext | None = None,
        local_port: int | None = None,
    ):
        """tls: None where it speaks plain HTTP. local_port: where it does so on its host in any case; None: `port`.

        What runs may be an older release than cluster.yaml is for, which spoke plain HTTP at `port` alone.
        """
        self.address, self.port = address, port
        self._tls = tls
        self._local_ports = tuple(dict.fromkeys((local_port or port, port)))
        self._token = token
        self._on_head = OnHead(head, argv, sudo_password)
        self._direct: bool | None = None

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        timeout: float = 30.0,
        worker: str | None = None,
        policy: str | None = None,
    ) -> tuple[int, Any]:
        """Status and decoded answer. worker: who is to answer. policy: by which the gateway is to choose.

        Raises UnavailableError where the gateway can't be reached in either way.
        """
        wishes = {"X-Cluster-Worker": worker, "X-Cluster-Policy": policy}
        headers = {name: it for name, it in wishes.items() if it}
        if self._direct is not False:
            try:
                reply = self._ask_directly(method, path, body, timeout, headers)
            except OSError as error:
                if self._direct and not _no_tls(error):
                    raise UnavailableError("the connection broke off", where="gateway") from None
                self._direct = False
            else:
                self._direct = True
                return reply
        return self._ask_on_head(method, path, body, timeout, headers)

    def _ask_directly(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: float, more: Mapping[str, str]
    ) -> tuple[int, Any]:
        import http.client

        connection = (
            http.client.HTTPSConnection(self.address, self.port, timeout=CONNECT, context=self._tls)
            if self._tls
            else http.client.HTTPConnection(self.address, self.port, timeout=CONNECT)
        )
        try:
            connection.connect()
            connection.sock.settimeout(timeout)
            headers = {
                "Content-Type": "application/json",
                **({"Authorization": f"Bearer {self._token}"} if self._token else {}),
                **more,
            }
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            reply = connection.getresponse()
            return reply.status, _decoded(reply.read().decode(errors="replace"))
        except http.client.HTTPException as error:
            raise UnavailableError(f"speaks no HTTP: {error!r}", where=f"{self.address}:{self.port}") from error
        finally:
            connection.close()

    def _ask_on_head(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: float, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        """The head asks itself, with the token that is there."""
        *others, last = self._local_ports
        for port in others:
            with contextlib.suppress(RefusedError):
                return self._ask_at(port, method, path, body, timeout, headers)
        return self._ask_at(last, method, path, body, timeout, headers)

    def _ask_at(
        self, port: int, method: str, path: str, body: dict[str, Any] | None, timeout: float, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        status, text = self._on_head.ask(
            method,
            port,
            path,
            json.dumps(body) if body is not None else "",
            what="the gateway",
            unit=f"'{layout.GATEWAY.replace('@', '@*')}'",
            token_file=str(layout.CREDENTIALS / layout.GATEWAY_TOKEN),
            timeout=timeout,
            headers=headers,
        )
        return status, _decoded(text)


def _no_tls(error: OSError) -> bool:
    """Another release may answer now than the one that did."""
    import ssl

    return isinstance(error, ssl.SSLError)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def one_token(gateway: Gateway, models: Sequence[str], *, timeout: float) -> dict[str, str]:
    """What is wrong with each model that doesn't answer; empty: all is well.

    Whatever the gateway's own policy is, none of them is to wait behind a long answer while another worker is free.
    """
    wrong = {}
    for model in models:
        request = {"model": model, "prompt": "Hello", "stream": False, "options": {"num_predict": 1}}
        try:
            status, answer = gateway.ask("POST", "/api/generate", request, timeout=timeout, policy="least_loaded")
        except UnavailableError as error:
            wrong[model] = error.what
            continue
        if status != 200 or not isinstance(answer, dict) or not answer.get("done"):
            wrong[model] = f"the gateway answers {status}: {_short(answer)}"
    return wrong


def _short(answer: Any) -> str:
    text = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(text)[:300]
