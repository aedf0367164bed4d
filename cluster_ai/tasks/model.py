"""What a task is, and the states that it goes through."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from cluster_ai.tasks.data.steps import StepsError, plan_of

KINDS = ("ai_inference", "data_processing", "custom")
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
MAX_RETRIES, MAX_PRIORITY, MAX_TAGS, MAX_TIMEOUT = 20, 100, 20, 7 * 24 * 3600.0


class State(StrEnum):
    QUEUED = "queued"  # in the journal alone
    SENT = "sent"  # Dask has it: it waits there, or runs
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (State.DONE, State.FAILED, State.CANCELLED)


class WrongError(ValueError):
    """A task that can't be: the text says which field, what was found, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What is asked for. memory is bytes, timeout seconds of running (not of waiting).

    idempotent: it may run more than once. Where a worker or the scheduler dies, such a task simply runs again; another
    one runs again only where it surely hasn't begun, and fails with that reason where it has.
    """

    kind: str
    payload: Mapping[str, Any]
    cpu: int = 1
    memory: int = 0
    gpu: int = 0
    timeout: float = 600.0
    retries: int = 0
    priority: int = 0
    tags: tuple[str, ...] = ()
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the journal has it. Times are seconds since 1970; attempt counts from 1, 0 before the first."""

    id: str
    user: str
    spec: Spec
    state: State
    attempt: int
    submitted: float
    ended: float | None
    worker: str | None
    error: str | None
    result: Any = field(repr=False)
    file: str | None = None  # with what came out

    def public(self) -> dict[str, Any]:
        """As the API tells of it, without its payload and result."""
        told = asdict(self)
        told.pop("result")
        told["result_file"] = told.pop("file")
        spec = told.pop("spec")
        spec.pop("payload")
        return {**told, **spec}


def spec_of(said: Any) -> Spec:
    """Raises WrongError, which tells all that is wrong."""
    if not isinstance(said, Mapping):
        raise WrongError("a task must be an object")
    known = {f.name for f in fields(Spec)}
    wrong = [
        f"{name}: there is no such field; fields: {', '.join(sorted(known))}" for name in sorted(said.keys() - known)
    ]
    kind = said.get("kind")
    if kind not in KINDS:
        wrong.append(f"kind: {kind!r} is none of {', '.join(KINDS)}")
    payload = said.get("payload", {})
    if not isinstance(payload, Mapping):
        wrong.append("payload: must be an object")
    else:
        wrong += _payload(str(kind), payload)
    for name, least, most in (
        ("cpu", 1, 4096),
        ("memory", 0, 1 << 50),
        ("gpu", 0, 64),
        ("retries", 0, MAX_RETRIES),
        ("priority", -MAX_PRIORITY, MAX_PRIORITY),
    ):
        value = said.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            wrong.append(f"{name}: must be a whole number from {least} to {most}, found {value!r}")
    timeout = said.get("timeout", 600.0)
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 < timeout <= MAX_TIMEOUT:
        wrong.append(f"timeout: must be seconds above 0, at most {MAX_TIMEOUT:.0f}, found {timeout!r}")
    tags = said.get("tags", [])
    if not isinstance(tags, list | tuple) or len(tags) > MAX_TAGS or not all(isinstance(t, str) for t in tags):
        wrong.append(f"tags: must be at most {MAX_TAGS} texts")
    idempotent = said.get("idempotent", kind != "custom")
    if not isinstance(idempotent, bool):
        wrong.append(f"idempotent: must be true or false, found {idempotent!r}")
    if kind == "data_processing" and idempotent is False:
        wrong.append("idempotent: data_processing only reads, and may always run again")
    if wrong:
        raise WrongError("; ".join(wrong))
    given = {name: said[name] for name in known & said.keys()}
    return Spec(
        **{**given, "payload": payload, "tags": tuple(tags), "idempotent": idempotent, "timeout": float(timeout)}
    )


def _payload(kind: str, payload: Mapping[str, Any]) -> list[str]:
    if not _finite(payload):
        return ["payload: has a number that isn't finite"]
    if kind == "custom" and not isinstance(payload.get("function"), str):
        return ["payload.function: the name of a function of an installed plugin is needed"]
    if kind == "data_processing":
        try:
            plan_of(payload)
        except StepsError as e:
            return [str(e)]
    if kind != "ai_inference":
        return []
    wrong = [] if isinstance(payload.get("model"), str) and payload["model"] else ["payload.model: a model is needed"]
    asked = [name for name in ("prompt", "messages", "input", "endpoint") if name in payload]
    if len(asked) != 1:
        ways = "prompt (generate), messages (chat), input (embed) and endpoint (OpenAI's)"
        wrong.append(f"payload: exactly one of {ways} is needed")
    if "endpoint" in payload:
        if payload["endpoint"] not in ENDPOINTS:
            wrong.append(f"payload.endpoint: {payload['endpoint']!r} is none of {', '.join(ENDPOINTS)}")
        if not isinstance(payload.get("body"), Mapping):
            wrong.append("payload.body: must be an object, what the endpoint takes")
    return wrong


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(_finite(v) for v in value.values())
    return all(_finite(v) for v in value) if isinstance(value, list | tuple) else True
