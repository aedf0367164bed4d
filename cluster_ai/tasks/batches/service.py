"""Files and batches, as the gateway asks for them: OpenAI's forms, users named by the gateway."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from cluster_ai.tasks.batches import files as uploads
from cluster_ai.tasks.batches.file import File
from cluster_ai.tasks.batches.files import Files, Form, UploadError
from cluster_ai.tasks.batches.runner import Runner
from cluster_ai.tasks.batches.store import ALIVE, Batch, Stage, Store
from cluster_ai.tasks.dispatcher import Dispatcher
from cluster_ai.tasks.journal import Journal
from cluster_ai.tasks.model import ENDPOINTS, State
from cluster_ai.tasks.refused import Refused

_METADATA = 16, 64, 512  # pairs, characters of a key, characters of a value


class BatchService:
    """Each request has the user's name in ?user=; without one it is an administrator's."""

    def __init__(self, journal: Journal, store: Store, files: Files, runner: Runner, dispatcher: Dispatcher) -> None:
        self._journal, self._store, self._files = journal, store, files
        self._runner, self._ask = runner, dispatcher.journal

    def routes(self) -> list[Route]:
        return [
            Route("/files", self._upload, methods=["POST"]),
            Route("/files", self._list_files, methods=["GET"]),
            Route("/files/{id}", self._get_file, methods=["GET"]),
            Route("/files/{id}", self._delete, methods=["DELETE"]),
            Route("/files/{id}/content", self._content, methods=["GET"]),
            Route("/batches", self._create, methods=["POST"]),
            Route("/batches", self._list, methods=["GET"]),
            Route("/batches/{id}", self._get, methods=["GET"]),
            Route("/batches/{id}/cancel", self._cancel, methods=["POST"]),
        ]

    async def _upload(self, request: Request) -> JSONResponse:
        """?owner=: whose it is to be. The body is the client's form, as it came."""
        user = request.query_params["owner"]
        room = min(uploads.QUOTA - await self._ask(self._store.used, user), self._files.free())
        with self._files.writing() as writing:
            try:
                form = Form(request.headers.get("content-type", ""), writing)
                await uploads.receive(form, request.stream())
            except UploadError as e:
                raise Refused(e.status, e.code, e.message) from None
            if writing.size > room:
                text = f"there is no room for it: {max(room, 0) >> 20} MiB are left to '{user}'; delete files"
                raise Refused(413, "no_room", text)
            file = writing.finish(user, form.filename or "", form.fields["purpose"], self._journal.now)
        await self._ask(self._store.add_file, file)
        return JSONResponse(file.public())

    async def _list_files(self, request: Request) -> JSONResponse:
        asked = request.query_params
        most = _limit(asked.get("limit"), 10_000)
        found: list[File] = await self._ask(
            self._store.files, asked.get("user"), asked.get("purpose"), asked.get("after"), most + 1
        )
        return _page([file.public() for file in found], most)

    async def _get_file(self, request: Request) -> JSONResponse:
        return JSONResponse((await self._file(request, request.path_params["id"])).public())

    async def _delete(self, request: Request) -> JSONResponse:
        file = await self._file(request, request.path_params["id"])
        await self._ask(self._store.forget_file, file.id)
        self._files.forget(file)
        return JSONResponse(uploads.deleted(file))

    async def _content(self, request: Request) -> Response:
        file = await self._file(request, request.path_params["id"])
        return FileResponse(self._files.path(file), media_type="application/octet-stream")

    async def _create(self, request: Request) -> JSONResponse:
        """{"batch": what the client said, "key": text or null, "owner": name, "models": those they may use or null}."""
        asked = json.loads(await request.body())
        said = asked["batch"]
        if not isinstance(said, dict):
            raise Refused(400, "invalid_request", "a batch must be an object")
        if said.get("endpoint") not in ENDPOINTS:
            text = f"endpoint: {said.get('endpoint')!r} is none of {', '.join(ENDPOINTS)}"
            raise Refused(400, "invalid_endpoint", text)
        if said.get("completion_window") != "24h":
            raise Refused(400, "invalid_completion_window", "completion_window: must be 24h")
        if not isinstance(said.get("input_file_id"), str):
            raise Refused(400, "missing_required_parameter", "input_file_id: the id of a file is needed")
        metadata = _metadata(said.get("metadata"))
        file = await self._file(request, said["input_file_id"])
        if file.purpose != "batch":
            raise Refused(400, "invalid_file", f"file '{file.id}' has the purpose {file.purpose}, not batch")
        batch: Batch = await self._ask(
            self._store.add_batch,
            asked["owner"],
            asked["key"],
            said["endpoint"],
            file.id,
            metadata,
            asked["models"],
        )
        self._runner.wake()
        return JSONResponse(await self._told(batch))

    async def _list(self, request: Request) -> JSONResponse:
        asked = request.query_params
        most = _limit(asked.get("limit"), 100)
        found = await self._ask(self._store.batches, asked.get("user"), asked.get("after"), most + 1)
        return _page([await self._told(batch) for batch in found], most)

    async def _get(self, request: Request) -> JSONResponse:
        return JSONResponse(await self._told(await self._batch(request)))

    async def _cancel(self, request: Request) -> JSONResponse:
        batch = await self._batch(request)
        could = (Stage.VALIDATING, Stage.IN_PROGRESS)
        if batch.stage is not Stage.CANCELLING:
            if not await self._ask(self._store.turn, batch.id, Stage.CANCELLING, of=could):
                text = f"batch '{batch.id}' is {batch.stage.value}; it can't be cancelled any more"
                raise Refused(409, "batch_ended", text)
            self._runner.wake()
        return JSONResponse(await self._told(await self._batch(request)))

    async def _told(self, batch: Batch) -> dict[str, Any]:
        if batch.counts is not None or batch.stage not in ALIVE:
            return batch.public(*(batch.counts or (0, 0)))
        counts: dict[State, int] = await self._ask(self._store.counts, batch.id)
        return batch.public(counts[State.DONE], counts[State.FAILED])

    async def _batch(self, request: Request) -> Batch:
        batch_id = request.path_params["id"]
        batch: Batch | None = await self._ask(self._store.batch, batch_id)
        if batch is None or not _sees(request, batch.user):
            raise Refused(404, "batch_not_found", f"batch '{batch_id}' not found")
        return batch

    async def _file(self, request: Request, file_id: str) -> File:
        file: File | None = await self._ask(self._store.file, file_id)
        if file is None or not _sees(request, file.user):
            raise Refused(404, "file_not_found", f"file '{file_id}' not found")
        return file


def _sees(request: Request, owner: str) -> bool:
    """Another user's is as good as none."""
    return request.query_params.get("user", owner) == owner


def _limit(said: str | None, most: int) -> int:
    if said is None:
        return min(most, 100 if most > 100 else 20)
    if not said.isdecimal() or not 1 <= int(said) <= most:
        raise Refused(400, "invalid_limit", f"limit: must be a whole number from 1 to {most}, found {said!r}")
    return int(said)


def _page(found: list[dict[str, Any]], most: int) -> JSONResponse:
    data = found[:most]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return JSONResponse({"object": "list", "data": data, **ends, "has_more": len(found) > most})


def _metadata(said: Any) -> dict[str, str] | None:
    if said is None:
        return None
    pairs, key, value = _METADATA
    if not isinstance(said, dict) or len(said) > pairs:
        raise Refused(400, "invalid_metadata", f"metadata: must be an object of at most {pairs} texts")
    if not all(len(k) <= key and isinstance(v, str) and len(v) <= value for k, v in said.items()):
        raise Refused(400, "invalid_metadata", f"metadata: names of up to {key}, texts of up to {value} characters")
    return dict(said)
