"""Tasks: work that is acknowledged once it can't be lost any more, and done when a worker has room."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.engine.client import canonical
from cluster_ai.gateway.admission.users import User
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.parts import PREFIX, Asking, Parts, owner, refusals
from cluster_ai.gateway.api.native.sessions import when

EXAMPLE: JsonDict = {
    "id": "task-0f3c9a51b7e2d846",
    "kind": "ai_inference",
    "state": "done",
    "user": "token",
    "attempt": 1,
    "worker": "gpu-worker-01",
    "error": None,
    "progress": 1.0,
    "progress_text": None,
    "result_file": None,
    "submitted": "2026-11-24T09:30:00Z",
    "ended": "2026-11-24T09:30:02Z",
    "cpu": 1,
    "memory": 0,
    "gpu": 0,
    "timeout": 600.0,
    "retries": 0,
    "priority": 0,
    "tags": ["nightly"],
    "idempotent": True,
}
TaskId = Annotated[str, Path(description="As the task was given it.", examples=["task-0f3c9a51b7e2d846"])]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Of your choice: the same key again is answered with the same task.",
    ),
]
StateName = Literal["queued", "sent", "done", "failed", "cancelled"]


class TaskRequest(Body):
    """What is to be done, and what that needs. memory is bytes, timeout seconds of running."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "ai_inference",
                    "payload": {"model": "smollm2", "prompt": "Why is the sky blue?"},
                    "retries": 2,
                }
            ]
        },
    )

    kind: Literal["ai_inference", "data_processing", "custom"] = Field(
        description="ai_inference: `payload` is for Ollama's generate (prompt), chat (messages) or embed (input)."
        " data_processing: `payload` has `input`, paths of CSV or Parquet files in the workers' data folder, `steps`"
        " (select, filter, convert, aggregate) and `output` (csv, jsonl, parquet); what comes out is a file."
        " custom: `payload` names a `function` of an installed plugin, and its `arguments`."
    )
    payload: dict[str, Any]
    cpu: int = Field(1, ge=1, le=4096)
    memory: int = Field(0, ge=0, le=1 << 50)
    gpu: int = Field(0, ge=0, le=64)
    timeout: float = Field(600.0, gt=0, le=7 * 24 * 3600)
    retries: int = Field(0, ge=0, le=20, description="How often it is tried again after it failed.")
    priority: int = Field(0, ge=-100, le=100, description="The highest first.")
    tags: list[Annotated[str, Field(max_length=100)]] = Field(default_factory=list, max_length=20)
    idempotent: bool | None = Field(
        None,
        description="Whether it may run again when its worker dies. By itself all but a custom one may; that one not:"
        " it then fails, and says so.",
    )


class BulkRequest(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "tasks": [
                        {"kind": "ai_inference", "payload": {"model": "smollm2", "prompt": text}}
                        for text in ("Why is the sky blue?", "Why is grass green?")
                    ]
                }
            ]
        }
    )

    tasks: list[TaskRequest] = Field(min_length=1, max_length=10_000)


class Ids(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": ["task-0f3c9a51b7e2d846"]}]})

    ids: list[str] = Field(description="In the order of the request.")


class TaskInfo(BaseModel):
    """state: queued (waits here), sent (waits or runs on a worker), done, failed or cancelled. Times are UTC."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    kind: str
    state: StateName
    user: str
    attempt: int = Field(description="Which one it is, or was; 0: none yet.")
    worker: str | None
    error: str | None
    progress: float | None = Field(
        description="A share of 0 to 1, as the task says itself while it runs; 1 when it is done; null: it says none."
    )
    progress_text: str | None = Field(description="What it does just now.")
    result_file: str | None = Field(description="The id of the file with what came out, where that is large.")
    submitted: str
    ended: str | None
    cpu: int
    memory: int
    gpu: int
    timeout: float
    retries: int
    priority: int
    tags: list[str]
    idempotent: bool


class Tasks(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"tasks": [EXAMPLE]}]})

    tasks: list[TaskInfo]


class ResultFile(BaseModel):
    """One of the user's files: `/v1/files/{id}/content` has it."""

    id: str
    filename: str
    bytes: int
    sha256: str
    expires_at: int = Field(description="Seconds since 1970.")


class TaskResult(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": "task-0f3c9a51b7e2d846", "result": {"response": "It scatters."}, "file": None}]
        }
    )

    id: str
    result: Any = Field(description="What the engine, or the function, answered; null where that is in the file.")
    file: ResultFile | None = Field(description="What came out, where that is large.")


def _info(said: dict[str, Any]) -> TaskInfo:
    ended = said["ended"]
    return TaskInfo(
        **{**said, "submitted": when(said["submitted"]), "ended": when(ended) if ended is not None else None}
    )


def _whose(user: User) -> dict[str, str]:
    """An operator sees everybody's."""
    return {} if user.may("oversee", "tasks") else {"user": owner(user)}


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/tasks", tags=["tasks"])
    ask = parts.tasks.ask

    async def add(user: User, tasks: list[TaskRequest], keys: list[str | None]) -> list[str]:
        for task in tasks:
            if task.kind == "ai_inference" and isinstance(task.payload.get("model"), str):
                user.must_have(canonical(task.payload["model"]))
        specs = [{k: v for k, v in task.model_dump().items() if v is not None} for task in tasks]
        said = await ask("POST", "/tasks", {}, {"tasks": specs, "keys": keys, "user": owner(user)})
        ids: list[str] = said["ids"]
        return ids

    @router.post(
        "",
        summary="Submit a task; it is acknowledged once it can't be lost any more",
        operation_id="submitTask",
        status_code=202,
        responses=refusals(500, 503),
    )
    async def submit(user: Asking, body: TaskRequest, key: Key = None) -> TaskInfo:
        (task_id,) = await add(user, [body], [key])
        return _info(await ask("GET", f"/tasks/{task_id}", _whose(user)))

    @router.post(
        "/bulk",
        summary="Submit many tasks: all of them, or none",
        operation_id="submitTasks",
        status_code=202,
        responses=refusals(413, 500, 503),
    )
    async def bulk(user: Asking, body: BulkRequest) -> Ids:
        return Ids(ids=await add(user, body.tasks, [None] * len(body.tasks)))

    @router.get("", summary="Your tasks, the newest first", operation_id="listTasks", responses=refusals(500, 503))
    async def tasks(
        user: Asking,
        state: StateName | None = None,
        tag: Annotated[str | None, Query(max_length=100)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Tasks:
        wanted = {name: value for name, value in (("state", state), ("tag", tag)) if value is not None}
        said = await ask("GET", "/tasks", {**_whose(user), **wanted, "most": str(limit)})
        return Tasks(tasks=[_info(task) for task in said["tasks"]])

    @router.get("/{id}", summary="One task", operation_id="getTaskStatus", responses=refusals(404, 500, 503))
    async def task(id: TaskId, user: Asking) -> TaskInfo:  # noqa: A002 (the path's name for it)
        return _info(await ask("GET", f"/tasks/{_segment(id)}", _whose(user)))

    @router.get(
        "/{id}/result",
        summary="What came out of a task that is done",
        operation_id="getTaskResult",
        responses=refusals(404, 409, 410, 500, 503),
    )
    async def result(id: TaskId, user: Asking) -> TaskResult:  # noqa: A002 (the path's name for it)
        return TaskResult(**await ask("GET", f"/tasks/{_segment(id)}/result", _whose(user)))

    @router.post(
        "/{id}/cancel",
        summary="Cancel a task; what runs is stopped. One that has ended stays as it is",
        operation_id="cancelTask",
        responses=refusals(404, 500, 503),
    )
    async def cancel(id: TaskId, user: Asking) -> TaskInfo:  # noqa: A002 (the path's name for it)
        return _info(await ask("POST", f"/tasks/{_segment(id)}/cancel", _whose(user)))

    return router


def _segment(task_id: str) -> str:
    """Raises Refusal (404) for what no task is named, so that nobody asks the manager anything else."""
    if not task_id.removeprefix("task-").isalnum() or not task_id.isascii():
        raise Refusal(404, "task_not_found", f"task '{task_id}' not found")
    return task_id
