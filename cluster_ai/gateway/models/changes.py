"""Ollama's calls that change models, for a whole cluster: pull, create, copy, delete, and the files for create.

An administrator's alone. Each goes to the workers that targets.py names, all at once; the client sees one work. What
fails on some workers is told at the end, by worker; what was done on the others stays.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp

from cluster_ai.engine.client import canonical
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
from cluster_ai.gateway.api.inference import until_gone
from cluster_ai.gateway.fleet import Fleet, Worker
from cluster_ai.gateway.models.blobs import Blobs, digest_of, digests
from cluster_ai.gateway.models.engine import Engine, FailedError
from cluster_ai.gateway.models.progress import Failure, Line, Progress, told
from cluster_ai.gateway.models.targets import Targets, for_new, for_present
from cluster_ai.gateway.parsing import parse
from cluster_ai.gateway.routing import Table
from cluster_ai.gateway.trace import Trace

BLOBS = "/api/blobs/"
SENDERS = 4  # workers that get a file from the gateway at the same time
_NDJSON = (b"content-type", b"application/x-ndjson")
_NO_ACCOUNT = (
    "a cluster has no account at ollama.com, which knows single machines by their own keys: "
    "push a model from the machine on which it was made"
)

Say = Callable[[Mapping[str, Any]], None]
Work = Callable[[Engine, Say], Awaitable[None]]


class Changes:
    def __init__(self, fleet: Fleet, client: aiohttp.ClientSession, blobs: Blobs) -> None:
        self._fleet, self._client, self._blobs = fleet, client, blobs
        self._sending = asyncio.Semaphore(SENDERS)

    def enter(self, table: Table) -> None:
        table.add("POST", "/api/pull", self._pull)
        table.add("POST", "/api/create", self._create)
        table.add("POST", "/api/copy", self._copy)
        table.add("DELETE", "/api/delete", self._delete)
        table.add("POST", "/api/push", self._no_account)
        table.add("POST", "/api/me", self._no_account)  # `ollama push` asks this first
        table.below(BLOBS, "{digest}", HEAD=self._has_blob, POST=self._take_blob)

    async def write_context(self, model: str, context: int) -> None:
        """Into the model, wherever it is: OpenAI's and Anthropic's clients can't ask for a size.

        model is canonical. Raises Refusal where it can't be done everywhere.
        """

        async def write(engine: Engine, say: Say) -> None:
            await _write_context(engine, model, context)

        targets = for_present(self._fleet, model, "")
        failure = await self._spread(targets, write, "written", _ignore, all_of_them=True)
        if failure is not None:
            raise Refusal(failure.status, "engine_error", failure.reason)

    async def _pull(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        body, model = await self._asked(receive, trace)
        targets = for_new(self._fleet, canonical(model), trace.wish.worker)
        context = self._fleet.contexts.get(canonical(model))

        async def pull(engine: Engine, say: Say) -> None:
            async for said in engine.follow("/api/pull", encode({**body, "stream": True})):
                say(said)
            if context is not None:  # the registry's model says nothing of the size that the cluster runs it with
                await _write_context(engine, model, context)

        await self._run(body, targets, pull, "pulled", receive, send, trace)

    async def _create(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        body, model = await self._asked(receive, trace)
        base = body.get("from")
        base = canonical(base) if isinstance(base, str) and base else ""
        targets = for_new(self._fleet, canonical(model), trace.wish.worker, base)
        needed = sorted(set(digests(body)))
        told_of = encode({**_sized(body, self._fleet.contexts.get(canonical(model))), "stream": True})

        async def create(engine: Engine, say: Say) -> None:
            for digest in needed:
                await self._give(engine, digest, say)
            async for said in engine.follow("/api/create", told_of):
                say(said)

        await self._run(body, targets, create, "created", receive, send, trace)
        if not trace.error and not targets.left_out:
            for digest in needed:
                self._blobs.forget(digest)

    async def _give(self, engine: Engine, digest: str, say: Say) -> None:
        """Makes a file be there, from what was uploaded."""
        if await engine.has_blob(digest):
            return
        path = self._blobs.path(digest)
        if path is None:
            raise FailedError(400, f"file {digest} is not here: send it to {BLOBS}{digest} first")
        total = path.stat().st_size
        line = {"status": f"copying {digest[7:19]} to the workers", "digest": digest, "total": total}
        async with self._sending:
            async for gone in engine.send_blob(digest, path):
                say({**line, "completed": gone})
        say({**line, "completed": total})

    async def _copy(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        body = await self._read(receive, trace)
        source, destination = body.get("source"), body.get("destination")
        if not isinstance(source, str) or not source or not isinstance(destination, str) or not destination:
            raise Refusal(400, "model_required", "source and destination are required")
        trace.model = canonical(destination)
        targets = for_present(self._fleet, canonical(source), trace.wish.worker)
        if not targets.workers:
            raise Refusal(404, "model_not_found", f'model "{source}" not found')

        async def copy(engine: Engine, say: Say) -> None:
            await engine.call("POST", "/api/copy", encode(body))

        await self._once(targets, copy, "copied", receive, send, trace)

    async def _delete(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        _, model = await self._asked(receive, trace)
        targets = for_present(self._fleet, canonical(model), trace.wish.worker)
        if not targets.workers:
            raise Refusal(404, "model_not_found", f"model '{model}' not found")

        async def delete(engine: Engine, say: Say) -> None:
            await engine.call("DELETE", "/api/delete", encode({"model": model}))

        await self._once(targets, delete, "deleted", receive, send, trace, all_of_them=True)

    async def _no_account(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        raise Refusal(501, "not_offered", _NO_ACCOUNT)

    async def _has_blob(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        digest = _named(scope)
        if self._blobs.path(digest) is None and not await self._everywhere(digest):
            raise Refusal(404, "blob_not_found", f'blob "{digest}" not found')
        await send_whole(send, 200, b"", [])

    async def _everywhere(self, digest: str) -> bool:
        """Whether every worker that could get a model has the file already."""
        engines = [Engine(w, self._fleet, self._client) for w in self._fleet.active()]
        found = await asyncio.gather(*(e.has_blob(digest) for e in engines), return_exceptions=True)
        return bool(found) and all(has is True for has in found)

    async def _take_blob(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        digest = _named(scope)
        new = not await self._everywhere(digest) and await self._blobs.store(digest, _pieces(receive))
        await send_whole(send, 201 if new else 200, b"", [])

    async def _read(self, receive: Receive, trace: Trace) -> dict[str, Any]:
        text = await read_body(receive)
        if not text:
            raise Refusal(400, "missing_body", "missing request body")
        return parse(text)

    async def _asked(self, receive: Receive, trace: Trace) -> tuple[dict[str, Any], str]:
        body = await self._read(receive, trace)
        model = body.get("model") or body.get("name")
        if not isinstance(model, str) or not model.strip():
            raise Refusal(400, "model_required", "model is required")
        trace.model = canonical(model)
        return body, model

    async def _run(
        self,
        body: Mapping[str, Any],
        targets: Targets,
        work: Work,
        what: str,
        receive: Receive,
        send: Send,
        trace: Trace,
    ) -> None:
        """A long work: told as it goes on, or at its end where the client wants no stream."""
        if body.get("stream") is False:
            await self._once(targets, work, what, receive, send, trace, success=encode({"status": "success"}))
            return
        trace.worker, begun = targets.names, False

        async def tell(line: Line) -> None:
            nonlocal begun
            if not begun:
                begun = True
                await send({"type": "http.response.start", "status": 200, "headers": [_NDJSON]})
            await send({"type": "http.response.body", "body": encode(line) + b"\n", "more_body": True})

        async def stream() -> None:
            for name, reason in targets.left_out:
                await tell({"status": f"without {name}, which can't be reached: {reason}"})
            failure = await self._spread(targets, work, what, tell)
            if failure is not None:
                trace.error = failure.reason
            if failure is not None and not begun:
                raise Refusal(failure.status, "engine_error", failure.reason)
            await tell({"error": failure.reason} if failure is not None else {"status": "success"})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await until_gone(receive, stream)

    async def _once(
        self,
        targets: Targets,
        work: Work,
        what: str,
        receive: Receive,
        send: Send,
        trace: Trace,
        *,
        success: bytes = b"",
        all_of_them: bool = False,
    ) -> None:
        """A short work. all_of_them: a worker that can't be reached now counts as failed."""

        trace.worker = targets.names

        async def whole() -> None:
            failure = await self._spread(targets, work, what, _ignore, all_of_them=all_of_them)
            if failure is not None:
                raise Refusal(failure.status, "engine_error", failure.reason)
            await send_whole(send, 200, success, [JSON] if success else [])

        await until_gone(receive, whole)

    async def _spread(
        self,
        targets: Targets,
        work: Work,
        what: str,
        tell: Callable[[Line], Awaitable[None]],
        *,
        all_of_them: bool = False,
    ) -> Failure | None:
        """Does the work on all workers at once; returns what failed, as one error."""
        progress = Progress(w.name for w in targets.workers)
        lines: asyncio.Queue[Line | None] = asyncio.Queue()

        def put(new: list[Line]) -> None:
            for line in new:
                lines.put_nowait(line)

        async def one(worker: Worker) -> None:
            engine = Engine(worker, self._fleet, self._client)
            try:
                await work(engine, lambda said: put(progress.said(worker.name, said, time.monotonic())))
            except FailedError as e:
                worker.suspect.set()
                put(progress.failure(worker.name, Failure(e.status, e.reason)))
            else:
                put(progress.finished(worker.name))
            await engine.refresh()

        async def every() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    for worker in targets.workers:
                        group.create_task(one(worker), name=f"{what}:{worker.name}")
            finally:
                lines.put_nowait(None)

        working = asyncio.create_task(every(), name=what)
        try:
            while (line := await lines.get()) is not None:
                await tell(line)
            await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        if all_of_them:
            for name, reason in targets.left_out:
                progress.failure(name, Failure(502, reason))
        return told(progress.failed, progress.done, what)


async def _ignore(_: Line) -> None: ...


async def _write_context(engine: Engine, model: str, context: int) -> None:
    """What else the model says of itself stays."""
    sized = {"model": model, "from": model, "parameters": {"num_ctx": context}, "stream": True}
    async for _ in engine.follow("/api/create", encode(sized)):
        pass


def _sized(body: dict[str, Any], context: int | None) -> dict[str, Any]:
    """With the context size that cluster.yaml gives the model: OpenAI's and Anthropic's clients can't ask for one."""
    parameters = body.get("parameters")
    if context is None or not (parameters is None or isinstance(parameters, dict)):
        return body
    return {**body, "parameters": {**(parameters or {}), "num_ctx": context}}


def _named(scope: Scope) -> str:
    return digest_of(scope["path"].removeprefix(BLOBS))


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if message["body"]:
            yield message["body"]
        if not message["more_body"]:
            return
