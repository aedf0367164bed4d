"""The gateway's public API, as the dashboard uses it: what models there are, and one prompt's answer as it comes."""

from __future__ import annotations

import json
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
class ServedModel:
    name: str
    placed: tuple[str, ...]  # workers that should serve it
    available: tuple[str, ...]  # workers that can now
    loaded: tuple[str, ...]  # workers that hold it in memory


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway tells of an answer when it is whole."""

    worker: str | None
    time_to_first_token: float | None  # seconds
    tokens_per_second: float | None
    tokens: int | None  # generated


class Gateway:
    """One gateway. A token is given with each call, since each person has their own."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def models(self, token: str | None) -> tuple[ServedModel, ...]:
        return tuple(_model(entry) for entry in self._get("/api/v1/models", token)["models"])

    def generate(self, model: str, prompt: str, token: str | None) -> Generator[str | Answer]:
        """The answer's text piece by piece, then one Answer. Closing the iterator hangs up, which frees the worker."""
        body = {"model": model, "prompt": prompt, "stream": True}
        with self._request(
            "POST", "/api/v1/generate", token, json=body, stream=True, timeout=ANSWER_TIMEOUT
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

    def _get(self, path: str, token: str | None) -> dict[str, Any]:
        with self._request("GET", path, token, timeout=TIMEOUT) as response:
            try:
                return dict(response.json())
            except (requests.RequestException, ValueError) as error:
                raise UnavailableError(
                    "what answers is not the gateway", where=self.url, remedy="check gateway_url"
                ) from error

    def _request(self, method: str, path: str, token: str | None, **how: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            response = requests.request(method, self.url + path, headers=headers, **how)  # noqa: S113 (callers give it)
        except requests.RequestException as error:
            reason = "no answer in time" if isinstance(error, requests.Timeout) else "connection refused or lost"
            raise UnavailableError(
                f"the gateway doesn't answer ({reason})",
                where=self.url,
                remedy="start it: `systemctl start cluster-ai-gateway` on the head host, or `cluster-ai up`",
            ) from error
        if response.ok:
            return response
        with response:
            if response.status_code in (401, 403):
                raise UnauthorizedError(
                    "the gateway does not accept this token" if token else "the gateway asks for a token",
                    where=self.url,
                )
            raise UnavailableError(
                f"the gateway says {response.status_code}: {_detail(response)}",
                where=self.url,
                remedy="try again shortly",
            )


def _model(entry: Mapping[str, Any]) -> ServedModel:
    return ServedModel(
        entry["name"], *(tuple(sorted(entry.get(key) or ())) for key in ("placed", "available", "loaded"))
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
