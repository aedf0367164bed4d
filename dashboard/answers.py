"""A prompt's answer as it comes, and what the gateway measured of it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster_ai.errors import UnavailableError
from dashboard.gateway import Caller, Gateway, message


@dataclass(frozen=True, slots=True)
class Wish:
    """Who is to answer, and how. None: as the gateway thinks best."""

    worker: str | None = None
    policy: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # Ollama's

    def headers(self) -> dict[str, str]:
        return {
            **({"X-Cluster-Worker": self.worker} if self.worker else {}),
            **({"X-Cluster-Policy": self.policy} if self.policy else {}),
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway tells of an answer when it is whole."""

    worker: str | None
    time_to_first_token: float | None  # seconds
    tokens_per_second: float | None
    tokens: int | None  # generated
    routing: str | None = None  # why this worker


def generate(
    gateway: Gateway, caller: Caller, model: str, prompt: str, wish: Wish | None = None
) -> Generator[str | Answer, None, None]:
    """The answer's text piece by piece, then one Answer. Closing the iterator hangs up, which frees the worker."""
    wish = wish or Wish()
    body = {"model": model, "prompt": prompt, "stream": True, "options": dict(wish.options)}
    where = gateway.url
    for piece in gateway.lines("/api/v1/generate", caller, body, wish.headers()):
        where = piece["worker"] or where
        if "error" in piece:
            raise UnavailableError(f"the answer broke off: {message(piece)}", where=where, remedy="send it again")
        if piece.get("response"):
            yield piece["response"]
        if piece.get("done"):
            yield _answer(piece)
            return
    raise UnavailableError("the answer ended too early", where=where, remedy="send it again")


def _answer(last: Mapping[str, Any]) -> Answer:
    return Answer(
        worker=last["worker"],
        time_to_first_token=last.get("time_to_first_token"),
        tokens_per_second=last.get("tokens_per_second"),
        tokens=(last.get("usage") or {}).get("completion_tokens"),
        routing=(last.get("routing") or {}).get("reason"),
    )
