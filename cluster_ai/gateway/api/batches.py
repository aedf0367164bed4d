"""OpenAI's files and batches: who asks is told here, the task manager does the rest. Files pass piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from cluster_ai.gateway.admission.users import User
from cluster_ai.gateway.api.http import (
    JSON,
    ClientGone,
    Receive,
    Refusal,
    Scope,
    Send,
    encode,
    read_body,
    send_whole,
)
from cluster_ai.gateway.api.native.parts import owner
from cluster_ai.gateway.routing import Table
from cluster_ai.gateway.tasks import TaskManager
from cluster_ai.gateway.trace import Trace

FILES, BATCHES = "/v1/files", "/v1/batches"
BODY_LIMIT = 64 * 1024  # bytes of what makes a batch
FORM_LIMIT = 201 << 20  # bytes of an upload; the task manager knows the file's own limit
_PIECE = 256 * 1024
_REST = re.compile(r"bytes=[0-9]{1,18}-")  # from there on
_ASKED = ("limit", "after", "purpose")  # of a list


class Batches:
    def __init__(self, tasks: TaskManager) -> None:
        self._tasks = tasks

    def enter(self, table: Table) -> None:
        table.add("GET", FILES, self._list)
        table.add("POST", FILES, self._upload)
        table.below(FILES + "/", "{file}", GET=self._file, DELETE=self._one)
        table.add("GET", BATCHES, self._list)
        table.add("POST", BATCHES, self._create)
        table.below(BATCHES + "/", "{batch}", GET=self._one, POST=self._cancel)

    async def _list(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        asked = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        wanted = {name: asked[name] for name in _ASKED if name in asked}
        await _answer(send, await self._tasks.ask("GET", _path(scope), {**wanted, **_whose(trace.user)}))

    async def _one(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        path = f"{_path(scope)}/{_id(scope)}"
        await _answer(send, await self._tasks.ask(scope["method"], path, _whose(trace.user)))

    async def _upload(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        headers = dict(scope["headers"])
        if int(headers.get(b"content-length", b"0")) > FORM_LIMIT:
            raise _too_large()
        kind = headers.get(b"content-type", b"").decode("latin-1")
        params = {"owner": owner(trace.user)}
        failed: list[Exception] = []
        try:
            said = await self._tasks.upload("/files", params, kind, _pieces(receive, failed))
        except Refusal:
            if failed:  # what ended the upload, rather than what the connection to the manager made of it
                raise failed[0] from None
            raise
        await _answer(send, said)

    async def _file(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        if not scope["path"].endswith("/content"):
            await self._one(scope, receive, send, trace)
            return
        path = f"/files/{_id(scope, '/content')}/content"
        asked = dict(scope["headers"]).get(b"range", b"").decode("latin-1")
        wanted = {"range": asked} if _REST.fullmatch(asked) else {}  # any other may be ignored (RFC 9110, 14.2)
        async with self._tasks.content(path, _whose(trace.user), wanted) as reply:
            headers = [(b"content-type", b"application/octet-stream"), (b"accept-ranges", b"bytes")]
            if reply.content_length is not None:
                headers.append((b"content-length", b"%d" % reply.content_length))
            if "content-range" in reply.headers:
                headers.append((b"content-range", reply.headers["content-range"].encode("latin-1")))
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            async for piece in reply.content.iter_chunked(_PIECE):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _create(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        body = await read_body(receive, BODY_LIMIT)
        try:
            said = json.loads(body)
        except ValueError as e:
            raise Refusal(400, "invalid_json", f"the request body is no JSON: {e}") from None
        key = dict(scope["headers"]).get(b"idempotency-key", b"").decode("latin-1")
        whose = _whose(trace.user)
        models = trace.user.models
        asked = {
            "batch": said,
            "key": key[:200] or None,
            "owner": owner(trace.user),
            "models": sorted(models) if models is not None else None,  # its lines are looked at when it is validated
        }
        await _answer(send, await self._tasks.ask("POST", "/batches", whose, asked))

    async def _cancel(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        if not scope["path"].endswith("/cancel"):
            raise Refusal(404, "not_found", f"there is no {scope['path']} here to POST to")
        path = f"/batches/{_id(scope, '/cancel')}/cancel"
        await _answer(send, await self._tasks.ask("POST", path, _whose(trace.user)))


async def _pieces(receive: Receive, failed: list[Exception]) -> AsyncIterator[bytes]:
    """A request's body as it comes. Why it ends too early is in failed, too: Refusal (413) or ClientGone."""
    size, more = 0, True
    while more:
        message = await receive()
        piece: bytes = message.get("body", b"")
        more, size = message.get("more_body", False), size + len(piece)
        if message["type"] == "http.disconnect":
            failed.append(ClientGone())
        elif size > FORM_LIMIT:
            failed.append(_too_large())
        if failed:
            raise failed[0]
        if piece:
            yield piece


def _too_large() -> Refusal:
    text = f"the upload is larger than {FORM_LIMIT >> 20} MiB"
    return Refusal(413, "file_too_large", text, [(b"connection", b"close")])


def _whose(user: User) -> Mapping[str, str]:
    """An operator sees everybody's."""
    return {} if user.may("oversee", "tasks") else {"user": owner(user)}


def _path(scope: Scope) -> str:
    return FILES[3:] if scope["path"].startswith(FILES) else BATCHES[3:]


def _id(scope: Scope, end: str = "") -> str:
    """Raises Refusal (404) for what nothing is named, so that nobody asks the manager anything else."""
    found: str = scope["path"].removesuffix(end).rpartition("/")[2]
    whole = scope["path"] == f"/v1{_path(scope)}/{found}{end}"
    if not whole or not found.isascii() or not found.replace("-", "").replace("_", "").isalnum():
        raise Refusal(404, "not_found", f"there is no {scope['path']} here")
    return found


async def _answer(send: Send, said: Any) -> None:
    await send_whole(send, 200, encode(said), [JSON])
