"""The gateway's public API, as the dashboard uses it: what models there are, and one prompt's answer as it comes."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from cluster_ai.errors import ClusterAIError, UnavailableError

TIMEOUT = (3, 10)  # seconds to connect, to answer
ANSWER_TIMEOUT = (3, 300)  # to connect, between two pieces of an answer: a model may have to be loaded first


class UnauthorizedError(ClusterAIError):
    """The gateway wants a token, or another one."""


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
class ServedModel:
    name: str
    size: int | None  # bytes
    parameters: str | None  # such as 13B
    quantization: str | None
    context: int | None  # tokens
    replicas: int  # workers that it is placed on
    present: tuple[str, ...]  # workers that can answer with it now
    loaded: tuple[str, ...]  # workers that hold it in memory


@dataclass(frozen=True, slots=True)
class WorkerState:
    name: str
    state: str  # joining, active, draining or down
    reason: str | None  # why it isn't active
    placed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Served:
    """What the gateway knows of the cluster now."""

    models: tuple[ServedModel, ...]
    workers: tuple[WorkerState, ...]
    scheduler: str | None  # why Dask's scheduler is away; None: it is there


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway tells of an answer when it is whole."""

    worker: str | None
    time_to_first_token: float | None  # seconds
    tokens_per_second: float | None
    tokens: int | None  # generated


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

    def served(self, caller: Caller) -> Served:
        models = self._get("/api/v1/models", caller)["models"]
        status = self._get("/api/v1/cluster/status", caller)
        return Served(
            models=tuple(_model(entry) for entry in models),
            workers=tuple(
                WorkerState(w["name"], w["state"], w["reason"], tuple(w["placed"])) for w in status["workers"]
            ),
            scheduler=None if status["scheduler_connected"] else status["scheduler_reason"] or "it does not answer",
        )

    def log_in(self, user: str, password: str, caller: Caller) -> Login:
        """Raises UnauthorizedError."""
        return self._login("/api/v1/login", {"user": user, "password": password}, caller)

    def renew(self, refresh: str, caller: Caller) -> Login:
        """Raises UnauthorizedError."""
        return self._login("/api/v1/login/refresh", {"refresh": refresh}, caller)

    def log_out(self, caller: Caller) -> None:
        self._request("POST", "/api/v1/logout", caller, timeout=TIMEOUT).close()

    def _login(self, path: str, body: Mapping[str, str], caller: Caller) -> Login:
        with self._request("POST", path, caller, json=body, timeout=TIMEOUT) as response:
            said = response.json()
        return Login(said["token"], time.time() + said["expires_in"], said["refresh"])

    def generate(self, model: str, prompt: str, caller: Caller) -> Generator[str | Answer]:
        """The answer's text piece by piece, then one Answer. Closing the iterator hangs up, which frees the worker."""
        body = {"model": model, "prompt": prompt, "stream": True}
        with self._request(
            "POST", "/api/v1/generate", caller, json=body, stream=True, timeout=ANSWER_TIMEOUT
        ) as response:
            worker = response.headers.get("X-Cluster-Worker")
            try:
                for line in response.iter_lines():
                    if not line:
                        continue
                    piece = json.loads(line)
                    if "error" in piece:
                        raise UnavailableError(
                            f"the answer broke off: {_message(piece)}", where=worker or self.url, remedy="send it again"
                        )
                    if piece.get("response"):
                        yield piece["response"]
                    if piece.get("done"):
                        yield _answer(piece, worker)
                        return
            except (requests.RequestException, ValueError) as error:
                raise UnavailableError(
                    "the answer broke off", where=worker or self.url, remedy="send it again"
                ) from error
        raise UnavailableError("the answer ended too early", where=worker or self.url, remedy="send it again")

    def _get(self, path: str, caller: Caller) -> dict[str, Any]:
        with self._request("GET", path, caller, timeout=TIMEOUT) as response:
            try:
                return dict(response.json())
            except (requests.RequestException, ValueError, TypeError) as error:
                raise UnavailableError(
                    "what answers is not the gateway", where=self.url, remedy="check gateway_url"
                ) from error

    def _request(self, method: str, path: str, caller: Caller, **how: Any) -> requests.Response:
        try:
            response = requests.request(method, self.url + path, headers=caller.headers(), **how)  # noqa: S113 (callers give it)
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
            if response.status_code == 401:
                raise UnauthorizedError(
                    "the gateway does not accept this token" if caller.token else "the gateway asks for a token",
                    where=self.url,
                )
            raise UnavailableError(
                f"the gateway says {response.status_code}: {_detail(response)}",
                where=self.url,
                remedy="try again shortly",
            )


def _model(entry: Mapping[str, Any]) -> ServedModel:
    return ServedModel(
        name=entry["name"],
        size=entry["size"],
        parameters=entry["parameter_size"],
        quantization=entry["quantization"],
        context=entry["context"],
        replicas=entry["replicas"],
        present=tuple(entry["present"]),
        loaded=tuple(entry["loaded"]),
    )


def _answer(last: Mapping[str, Any], worker: str | None) -> Answer:
    usage = last.get("usage") or {}
    return Answer(
        worker=last.get("worker") or worker,
        time_to_first_token=last.get("time_to_first_token"),
        tokens_per_second=last.get("tokens_per_second"),
        tokens=usage.get("completion_tokens"),
    )


def _message(body: Mapping[str, Any]) -> str:
    error = body["error"]
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)


def _detail(response: requests.Response) -> str:
    try:
        body = response.json()
        return _message(body) if "error" in body else str(body.get("detail", response.reason))
    except (ValueError, AttributeError, TypeError):
        return str(response.reason)
