"""The gateway's public API, as the dashboard asks it; what its answers mean is read by the module of each noun."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from cluster_ai.errors import ClusterAIError, UnavailableError

TIMEOUT = (3, 10)  # seconds to connect, to answer
ORDER_TIMEOUT = (3, 120)  # to connect, to have done something: a model may be loaded meanwhile
ANSWER_TIMEOUT = (3, 300)  # to connect, between two pieces of an answer: a model may have to be loaded first


class UnauthorizedError(ClusterAIError):
    """The gateway wants a token, or another one."""


class ForbiddenError(ClusterAIError):
    """The person is known, and may not do this."""


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf the dashboard asks."""

    token: str | None = None
    address: str | None = None  # None: a person on this very machine

    def headers(self) -> dict[str, str]:
        """With the address: who trusts this machine must not trust everybody who reaches the dashboard on it."""
        return {
            **({"Authorization": f"Bearer {self.token}"} if self.token else {}),
            **({"X-Forwarded-For": self.address} if self.address else {}),
        }


@dataclass(frozen=True, slots=True)
class Login:
    """ends: of the token, seconds since 1970; refresh gets the next one, once."""

    token: str
    ends: float
    refresh: str


class Gateway:
    """One gateway. Who asks is told with each call, since each person has their own token."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def log_in(self, user: str, password: str, caller: Caller) -> Login:
        """Raises UnauthorizedError."""
        return self._login("/api/v1/login", {"user": user, "password": password}, caller)

    def log_in_by_provider(self, id_token: str, caller: Caller) -> Login:
        """Raises UnauthorizedError."""
        return self._login("/api/v1/login/oidc", {"id_token": id_token}, caller)

    def renew(self, refresh: str, caller: Caller) -> Login:
        """Raises UnauthorizedError."""
        return self._login("/api/v1/login/refresh", {"refresh": refresh}, caller)

    def log_out(self, caller: Caller) -> None:
        self._request("POST", "/api/v1/logout", caller, timeout=TIMEOUT).close()

    def _login(self, path: str, body: Mapping[str, str], caller: Caller) -> Login:
        with self._request("POST", path, caller, json=body, timeout=TIMEOUT) as response:
            said = response.json()
        return Login(said["token"], time.time() + said["expires_in"], said["refresh"])

    def get(self, path: str, caller: Caller, params: Mapping[str, str | int] | None = None) -> dict[str, Any]:
        """Raises UnauthorizedError, ForbiddenError, UnavailableError; so do the others."""
        return self._json("GET", path, caller, params=params)

    def send(self, method: str, path: str, caller: Caller, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Has the gateway do something. Its answer; empty where that has no body."""
        return self._json(method, path, caller, json=body if body is not None else {}, timeout=ORDER_TIMEOUT)

    def lines(
        self, path: str, caller: Caller, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Generator[dict[str, Any], None, None]:
        """What a stream says, object by object, each with the worker that says it. Closing it hangs up."""
        with self._request(
            "POST", path, caller, extra=headers, json=body, stream=True, timeout=ANSWER_TIMEOUT
        ) as response:
            worker = response.headers.get("X-Cluster-Worker")
            try:
                for line in response.iter_lines():
                    if line:
                        yield {"worker": worker, **json.loads(line)}
            except (requests.RequestException, ValueError, TypeError) as error:
                raise UnavailableError(
                    "the answer broke off", where=worker or self.url, remedy="send it again"
                ) from error

    def _json(self, method: str, path: str, caller: Caller, **how: Any) -> dict[str, Any]:
        with self._request(method, path, caller, **{"timeout": TIMEOUT, **how}) as response:
            try:
                return dict(response.json()) if response.content else {}
            except (requests.RequestException, ValueError, TypeError) as error:
                raise UnavailableError(
                    "what answers is not the gateway", where=self.url, remedy="check gateway_url"
                ) from error

    def _request(
        self, method: str, path: str, caller: Caller, *, extra: Mapping[str, str] | None = None, **how: Any
    ) -> requests.Response:
        headers = {**caller.headers(), **(extra or {})}
        try:
            response = requests.request(method, self.url + path, headers=headers, **how)  # noqa: S113 (callers give it)
        except requests.RequestException as error:
            reason = "no answer in time" if isinstance(error, requests.Timeout) else "connection refused or lost"
            raise UnavailableError(
                f"the gateway doesn't answer ({reason})",
                where=self.url,
                remedy="start it: `systemctl start cluster-ai.target` on the head host, or `cluster-ai up`",
            ) from error
        if response.ok:
            return response
        with response:
            raise self._refused(response, caller)

    def _refused(self, response: requests.Response, caller: Caller) -> ClusterAIError:
        status = response.status_code
        if status == 401:
            what = "the gateway does not accept this token" if caller.token else "the gateway asks for a token"
            return UnauthorizedError(what, where=self.url)
        if status == 403:
            return ForbiddenError(_detail(response), remedy="an administrator of the cluster gives roles")
        remedy = "try again shortly" if status in (429, 502, 503) else "see that what was asked for is right"
        return UnavailableError(f"the gateway says {status}: {_detail(response)}", where=self.url, remedy=remedy)


def message(body: Mapping[str, Any]) -> str:
    """Of an error in an answer's body."""
    error = body["error"]
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)


def _detail(response: requests.Response) -> str:
    try:
        body = response.json()
        return message(body) if "error" in body else str(body.get("detail", response.reason))
    except (ValueError, AttributeError, TypeError):
        return str(response.reason)
