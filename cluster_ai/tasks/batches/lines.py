"""A batch's lines: what may stand in them, and how what came out of them is told. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster_ai.engine.client import canonical
from cluster_ai.tasks.model import Spec, State, Task, WrongError, spec_of

MOST = 50_000  # requests of one batch
TOLD = 100  # faults of a file that are told
LONGEST_ID = 512
PRIORITY, TIMEOUT, RETRIES = -10, 3600.0, 2  # behind what people submit task by task


@dataclass(frozen=True, slots=True)
class Wrong:
    """line counts from 1; None: it is the file's."""

    code: str
    message: str
    line: int | None = None

    def public(self) -> dict[str, Any]:
        return {"code": self.code, "line": self.line, "message": self.message, "param": None}


class LineError(ValueError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def check(lines: Iterable[bytes], endpoint: str, models: frozenset[str] | None = None) -> tuple[int, list[Wrong]]:
    """How many requests they are, and what is wrong with them: the first so many faults.

    models: canonical names of those that may be asked; None: all.
    """
    count, wrong, seen = 0, list[Wrong](), dict[str, int]()
    for number, line in filled(lines):
        count += 1
        if count > MOST:
            return count, [*wrong, Wrong("too_many_tasks", f"there are more than {MOST} requests")]
        try:
            custom_id, spec = request(line, endpoint)
            if models is not None and (model := canonical(spec.payload["model"])) not in models:
                allowed = ", ".join(sorted(models)) or "none"
                raise LineError("model_not_allowed", f"body.model: {model} may not be used, only: {allowed}")
            if custom_id in seen:
                raise LineError("duplicate_custom_id", f"custom_id {custom_id!r} stands in line {seen[custom_id]} too")
            seen[custom_id] = number
        except LineError as e:
            wrong.append(Wrong(e.code, e.message, number))
            if len(wrong) == TOLD:
                break
    if not count:
        wrong.append(Wrong("empty_file", "the file has no requests"))
    return count, wrong


def filled(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """With their numbers, from 1; empty ones are passed over."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line


def request(line: bytes, endpoint: str) -> tuple[str, Spec]:
    """A line's custom_id, and its task. Raises LineError."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise LineError("invalid_json_line", f"the line is no JSON: {e}") from None
    if not isinstance(said, dict):
        raise LineError("invalid_request", "the line is no object")
    custom_id, body = said.get("custom_id"), said.get("body")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= LONGEST_ID:
        raise LineError("missing_required_parameter", f"custom_id: a text of 1 to {LONGEST_ID} characters is needed")
    if said.get("method") != "POST":
        raise LineError("invalid_method", f"method: must be POST, found {said.get('method')!r}")
    if said.get("url") != endpoint:
        raise LineError("mismatched_url", f"url: must be the batch's endpoint {endpoint}, found {said.get('url')!r}")
    if not isinstance(body, dict):
        raise LineError("missing_required_parameter", "body: an object is needed")
    if body.get("stream"):
        raise LineError("invalid_request", "body.stream: an answer of a batch is no stream")
    payload = {"model": body.get("model"), "endpoint": endpoint, "body": body, "custom_id": custom_id}
    more = {"priority": PRIORITY, "timeout": TIMEOUT, "retries": RETRIES}
    try:
        return custom_id, spec_of({"kind": "ai_inference", "payload": payload, **more})
    except WrongError as e:
        raise LineError("invalid_request", str(e).replace("payload.", "body.")) from None


def answer(task: Task) -> dict[str, Any]:
    """The line of the output file."""
    reply = {"status_code": 200, "request_id": task.id, "body": task.result}
    return {"id": _name(task), "custom_id": task.spec.payload["custom_id"], "response": reply, "error": None}


def fault(task: Task, *, expired: bool) -> dict[str, Any] | None:
    """The line of the error file; None for one that was cancelled."""
    if task.state is State.FAILED:
        error = {"code": "request_failed", "message": task.error or "it failed"}
    elif expired:
        error = {"code": "batch_expired", "message": "the batch's time was over before this request could be answered"}
    else:
        return None
    return {"id": _name(task), "custom_id": task.spec.payload["custom_id"], "response": None, "error": error}


def _name(task: Task) -> str:
    return "batch_req_" + task.id.removeprefix("task-")


def encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
