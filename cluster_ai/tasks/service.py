"""What the gateway asks of the task manager, over its Unix socket: JSON over HTTP, users named by the gateway.

The socket's permissions say who may ask; nothing here checks a credential.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cluster_ai.tasks import placing
from cluster_ai.tasks.batches.file import File
from cluster_ai.tasks.batches.service import BatchService
from cluster_ai.tasks.batches.store import Store
from cluster_ai.tasks.dispatcher import Dispatcher
from cluster_ai.tasks.journal import Journal
from cluster_ai.tasks.model import ENDED, Spec, State, Task, WrongError, spec_of
from cluster_ai.tasks.progress import Progress
from cluster_ai.tasks.refused import Refused
from cluster_ai.tasks.spent import Spendings

MOST = 10_000  # tasks of one request


class Service:
    """Each request has the user's name in ?user=; without one it is an administrator's, who sees everybody's tasks."""

    def __init__(
        self,
        journal: Journal,
        store: Store,
        dispatcher: Dispatcher,
        batches: BatchService,
    ) -> None:
        self._journal, self._dispatcher, self._batches = journal, dispatcher, batches
        self._store, self._spent = store, Spendings(journal)

    def app(self) -> Starlette:
        routes = [
            Route("/tasks", self._submit, methods=["POST"]),
            Route("/tasks", self._list, methods=["GET"]),
            Route("/tasks/{id}", self._get, methods=["GET"]),
            Route("/tasks/{id}/result", self._result, methods=["GET"]),
            Route("/tasks/{id}/cancel", self._cancel, methods=["POST"]),
            Route("/spent", self._spent_after, methods=["GET"]),
            Route("/counts", self._counts, methods=["GET"]),
            Route("/people", self._people, methods=["POST"]),
            *self._batches.routes(),
        ]
        return Starlette(routes=routes, exception_handlers={Refused: _refused})

    async def _submit(self, request: Request) -> JSONResponse:
        """{"tasks": [spec, …], "keys": [text or null, …], "user": name}: answered once they are on the disk."""
        said = json.loads(await request.body())
        specs, keys = self._specs(said["tasks"]), said["keys"]
        ids = await self._dispatcher.journal(self._journal.add, said["user"], specs, keys)
        self._dispatcher.wake()
        return JSONResponse({"ids": ids}, 202)

    def _specs(self, said: list[Any]) -> list[Spec]:
        if len(said) > MOST:
            raise Refused(413, "too_many_tasks", f"{len(said)} tasks in one request; at most {MOST}")
        specs, wrong = [], []
        for number, one in enumerate(said):
            try:
                specs.append(spec_of(one))
                if why := placing.nowhere(specs[-1], self._dispatcher.workers):
                    raise WrongError(why)
            except WrongError as e:
                wrong.append(f"tasks[{number}]: {e}")
        if wrong:
            more = f" (and {len(wrong) - 10} more)" if len(wrong) > 10 else ""
            raise Refused(400, "invalid_task", "; ".join(wrong[:10]) + more)
        return specs

    async def _list(self, request: Request) -> JSONResponse:
        asked = request.query_params
        state = State(asked["state"]) if asked.get("state") else None
        found: list[Task] = await self._dispatcher.journal(
            self._journal.newest, user=asked.get("user"), state=state, tag=asked.get("tag"), most=int(asked["most"])
        )
        return JSONResponse({"tasks": [self._told(task) for task in found]})

    async def _get(self, request: Request) -> JSONResponse:
        task = await self._found(request)
        return JSONResponse(self._told(task))

    async def _result(self, request: Request) -> JSONResponse:
        task = await self._found(request)
        if task.state not in ENDED:
            raise Refused(409, "task_not_ended", f"task {task.id} is {task.state.value}; it has no result yet")
        if task.state is not State.DONE:
            raise Refused(409, f"task_{task.state.value}", task.error or f"task {task.id} was {task.state.value}")
        file: File | None = None
        if task.file is not None:
            file = await self._dispatcher.journal(self._store.file, task.file)
            if file is None:
                raise Refused(410, "result_deleted", f"the file with the result of task {task.id} was deleted")
        return JSONResponse({"id": task.id, "result": task.result, "file": file.public() if file else None})

    async def _cancel(self, request: Request) -> JSONResponse:
        task = await self._found(request)
        await self._dispatcher.cancel(task.id)
        return JSONResponse(self._told(await self._found(request)))

    async def _counts(self, request: Request) -> JSONResponse:
        counts: dict[State, int] = await self._dispatcher.journal(self._journal.counts)
        told = {state.value: count for state, count in counts.items()}
        return JSONResponse(
            {"counts": told, "scheduler": self._dispatcher.reason or None, "held": self._dispatcher.held}
        )

    async def _spent_after(self, request: Request) -> JSONResponse:
        """What engines did for tasks that ended after ?after=, a number of this list; up to there it is forgotten."""
        rows = await self._dispatcher.journal(self._spent.after, int(request.query_params["after"]))
        return JSONResponse({"spent": rows})

    async def _people(self, request: Request) -> JSONResponse:
        """{worker: requests of people that it had lately}."""
        self._dispatcher.yield_to(json.loads(await request.body()))
        return JSONResponse({})

    def _told(self, task: Task) -> dict[str, Any]:
        """progress: null where it hasn't said any, or isn't running."""
        now = Progress(1.0, "") if task.state is State.DONE else self._dispatcher.progress(task.id)
        return {
            **task.public(),
            "progress": now.share if now is not None else None,
            "progress_text": now.text or None if now is not None else None,
        }

    async def _found(self, request: Request) -> Task:
        """Another user's is as good as none."""
        task: Task | None = await self._dispatcher.journal(self._journal.get, request.path_params["id"])
        user = request.query_params.get("user")
        if task is None or (user is not None and task.user != user):
            raise Refused(404, "task_not_found", f"task '{request.path_params['id']}' not found")
        return task


async def _refused(request: Request, refused: Exception) -> JSONResponse:
    assert isinstance(refused, Refused)
    return JSONResponse({"code": refused.code, "message": refused.message}, refused.status)
