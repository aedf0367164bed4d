"""Leads a job to its answers: whatever broke off before is found again by the parts' keys."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from cluster_ai.batch.job import Folder, Job, Part, answers, encoded, told
from cluster_ai.errors import UnavailableError

POLL, PATIENCE = 1.0, 300.0  # seconds between looks; in which a gateway that doesn't answer is asked again
ENDED = ("completed", "failed", "cancelled", "expired")


class Gateway(Protocol):
    def ask(self, method: str, path: str, body: Any = None) -> Any: ...

    def ask_once(self, path: str, key: str, body: Any) -> Any: ...

    def upload(self, name: str, content: bytes) -> str: ...

    def lines(self, path: str) -> Iterator[Any]: ...


def run(gateway: Gateway, folder: Folder, job: Job, show: Callable[[int, int, int], None]) -> tuple[int, int]:
    """Until all is in the files; how many rows have an answer, and how many have none.

    show: is told how many are answered and failed, and of how many. Raises UnavailableError.
    """
    job = _sent(gateway, folder, job)
    batches = _awaited(gateway, job, show)
    done = failed = 0

    def kept() -> Iterator[bytes]:
        nonlocal done
        for _, batch in batches:
            if batch["output_file_id"]:
                for line in answers(gateway.lines(f"/v1/files/{batch['output_file_id']}/content")):
                    done += 1
                    yield line

    folder.put(folder.path / "answers", kept())
    faults = sorted([*folder.wrong(), *_faults(gateway, folder, batches)], key=lambda it: int(it["row"]))
    failed = len(faults)
    if faults:
        folder.put(folder.errors, tuple(map(encoded, faults)))
    else:
        folder.errors.unlink(missing_ok=True)
    (folder.path / "answers").replace(folder.out)
    folder.done()
    for _, batch in batches:
        for name in ("input_file_id", "output_file_id", "error_file_id"):
            if batch[name]:
                _forget(gateway, batch[name])
    return done, failed


def _sent(gateway: Gateway, folder: Folder, job: Job) -> Job:
    for number, part in enumerate(job.parts):
        if part.batch is None:
            file = gateway.upload(part.name, (folder.path / part.name).read_bytes())
            asked = {"input_file_id": file, "endpoint": part.endpoint, "completion_window": "24h"}
            batch = gateway.ask_once("/v1/batches", f"{job.key}-{number}", asked)
            if batch["input_file_id"] != file:
                _forget(gateway, file)  # it was made before this command was cut off
            job = folder.made(job, part, str(batch["id"]))
    return job


def _awaited(gateway: Gateway, job: Job, show: Callable[[int, int, int], None]) -> list[tuple[Part, Mapping[str, Any]]]:
    total = sum(part.lines for part in job.parts)
    answered = time.monotonic()
    while True:
        try:
            found = [(part, gateway.ask("GET", f"/v1/batches/{part.batch}")) for part in job.parts]
            answered = time.monotonic()
        except UnavailableError:
            if time.monotonic() - answered > PATIENCE:
                raise
        else:
            counts = [batch["request_counts"] for _, batch in found]
            show(sum(it["completed"] for it in counts), sum(it["failed"] for it in counts), total)
            if all(batch["status"] in ENDED for _, batch in found):
                return found
        time.sleep(POLL)


def _faults(
    gateway: Gateway, folder: Folder, batches: list[tuple[Part, Mapping[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """A line for each request without an answer."""
    for part, batch in batches:
        if batch["status"] == "completed" and not batch["error_file_id"]:
            continue
        answered = set[int]()
        for name in ("output_file_id", "error_file_id"):
            for line in gateway.lines(f"/v1/files/{batch[name]}/content") if batch[name] else ():
                number, row_id = told(line["custom_id"])
                answered.add(number)
                if line["error"]:
                    yield {"id": row_id, "row": number, "error": line["error"]}
        if batch["status"] == "completed":
            continue
        wrong = [it["message"] for it in (batch["errors"] or {}).get("data", [])][:3]
        error = {"code": f"batch_{batch['status']}", "message": "; ".join(wrong) or f"the batch was {batch['status']}"}
        for number, row_id in _rows(folder, part):
            if number not in answered:
                yield {"id": row_id, "row": number, "error": error}


def _rows(folder: Folder, part: Part) -> Iterator[tuple[int, Any]]:
    with (folder.path / part.name).open("rb") as file:
        for line in file:
            yield told(json.loads(line)["custom_id"])


def _forget(gateway: Gateway, file_id: str) -> None:
    """The answers are here: what can't be deleted now goes by itself later."""
    try:
        gateway.ask("DELETE", f"/v1/files/{file_id}")
    except UnavailableError:
        return
