"""A prompt's answer as it comes, and what the gateway measured of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
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


Pieces = Generator[str | Answer, None, None]  # the text piece by piece, then one Answer


def generate(gateway: Gateway, caller: Caller, model: str, prompt: str, wish: Wish | None = None) -> Pieces:
    """Closing the iterator hangs up, which frees the worker; so it does in a chat."""
    body = {"model": model, "prompt": prompt}
    return _pieces(gateway, caller, "/api/v1/generate", body, wish or Wish(), lambda said: said.get("response"))


def chat(
    gateway: Gateway, caller: Caller, model: str, messages: Sequence[Mapping[str, str]], wish: Wish | None = None
) -> Pieces:
    """messages: of the whole conversation, with `role` and `content`."""
    body = {"model": model, "messages": list(messages)}
    return _pieces(gateway, caller, "/api/v1/chat", body, wish or Wish(), lambda said: said["message"]["content"])


def _pieces(
    gateway: Gateway,
    caller: Caller,
    path: str,
    body: Mapping[str, Any],
    wish: Wish,
    text_of: Callable[[Mapping[str, Any]], str | None],
) -> Pieces:
    where = gateway.url
    whole = {**body, "stream": True, "options": dict(wish.options)}
    for said in gateway.lines(path, caller, whole, wish.headers()):
        where = said["worker"] or where
        if "error" in said:
            raise UnavailableError(f"the answer broke off: {message(said)}", where=where, remedy="send it again")
        if text := text_of(said):
            yield text
        if said.get("done"):
            yield _answer(said)
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
