"""The asyncio client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import IO, Any, Literal, TypeVar
from urllib.parse import quote

import httpx

from cluster_ai.client import calls
from cluster_ai.client import model_types as m
from cluster_ai.client import types as t
from cluster_ai.client.calls import Call, Messages, Stream
from cluster_ai.client.transport import ANSWER, Lines, answered, asked, failed, landing, options, unreachable

T = TypeVar("T")
Format = Literal["json"] | Mapping[str, Any]
_NO_LIMITS = t.KeyLimits()  # of its own


class AsyncClient:
    """One gateway. Use it as `async with AsyncClient(url, token) as client`.

    token: the cluster's, or a key of `cluster-ai keys`; none is needed in a trusted network. timeout: seconds until an
    answer begins, and between two pieces of it. ca: a PEM file with CAs that are trusted beside this machine's, such as
    `cluster-ai certs ca` prints. Every method raises ClientError (errors.py).
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout: float = ANSWER, ca: str | PathLike[str] | None = None
    ) -> None:
        self._http = httpx.AsyncClient(**options(url, token, timeout, ca))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _ask(self, call: Call[T]) -> T:
        try:
            response = await self._http.request(**asked(call))
        except httpx.HTTPError as e:
            raise unreachable(e) from e
        return answered(call, response)

    async def _stream(self, stream: Stream[T]) -> AsyncGenerator[t.Text | T, None]:
        lines = Lines(stream)
        begun = False
        try:
            async with self._http.stream("POST", stream.path, json=dict(stream.body)) as response:
                if response.is_error:
                    await response.aread()
                    raise failed(response)
                begun = True
                async for line in response.aiter_lines():
                    piece = lines.piece(line) if line else None
                    if piece is not None:
                        yield piece
        except httpx.HTTPError as e:
            raise (lines.broken(e) if begun else unreachable(e)) from e
        if lines.reply is None:
            raise lines.broken()
        yield lines.reply

    # --- generation -------------------------------------------------------------------------------------------------

    async def generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        format: Format | None = None,  # noqa: A002 (Ollama's name for it)
        mode: t.Mode = "auto",
    ) -> t.GenerateReply:
        """A prompt's whole answer; template and variables in place of the prompt."""
        body = calls.generate_body(
            model,
            prompt,
            template=template,
            variables=variables,
            system=system,
            options=options,
            format=format,
            mode=mode,
        )
        return await self._ask(calls.generate(body))

    def stream_generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        format: Format | None = None,  # noqa: A002 (Ollama's name for it)
        mode: t.Mode = "auto",
    ) -> AsyncGenerator[t.Text | t.GenerateReply, None]:
        """As generate, piece by piece; the last is the reply, with an empty response. Closing it hangs up."""
        body = calls.generate_body(
            model,
            prompt,
            template=template,
            variables=variables,
            system=system,
            options=options,
            format=format,
            mode=mode,
        )
        return self._stream(calls.stream_generate(body))

    async def chat(
        self,
        messages: Messages = (),
        *,
        model: str | None = None,
        session: str | None = None,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        format: Format | None = None,  # noqa: A002 (Ollama's name for it)
        mode: t.Mode = "auto",
    ) -> t.ChatReply:
        """The next turn; with a session, its messages go before, and the turn is kept."""
        body = calls.chat_body(
            messages,
            model=model,
            session=session,
            template=template,
            variables=variables,
            system=system,
            options=options,
            format=format,
            mode=mode,
        )
        return await self._ask(calls.chat(body))

    def stream_chat(
        self,
        messages: Messages = (),
        *,
        model: str | None = None,
        session: str | None = None,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        format: Format | None = None,  # noqa: A002 (Ollama's name for it)
        mode: t.Mode = "auto",
    ) -> AsyncGenerator[t.Text | t.ChatReply, None]:
        """As chat, piece by piece; the last is the reply, with an empty message. Closed before, nothing is kept."""
        body = calls.chat_body(
            messages,
            model=model,
            session=session,
            template=template,
            variables=variables,
            system=system,
            options=options,
            format=format,
            mode=mode,
        )
        return self._stream(calls.stream_chat(body))

    # --- models -----------------------------------------------------------------------------------------------------

    async def models(self) -> tuple[m.ModelInfo, ...]:
        return await self._ask(calls.models())

    async def model(self, name: str) -> m.ModelInfo:
        return await self._ask(calls.model(name))

    async def explain_model(self, name: str) -> m.ModelExplanation:
        """Why it is on these workers, and not on others."""
        return await self._ask(calls.explain_model(name))

    async def scaling(self) -> tuple[m.ScalingDecision, ...]:
        """What the autoscaler decided, the newest first."""
        return await self._ask(calls.scaling())

    async def load(self, name: str, *, worker: str | None = None, keep_alive: str | int | None = None) -> m.ModelChange:
        """On one worker, or wherever it is placed. keep_alive: seconds, or like 5m; negative: for ever."""
        return await self._ask(calls.load(name, worker, keep_alive))

    async def unload(self, name: str, *, worker: str | None = None) -> m.ModelChange:
        return await self._ask(calls.unload(name, worker))

    async def model_config(self, name: str) -> m.ModelConfig:
        return await self._ask(calls.model_config(name))

    async def set_model_config(self, name: str, *, context: int | None) -> m.ModelConfig:
        """Only of models that cluster.yaml doesn't name; else ConflictError."""
        return await self._ask(calls.set_model_config(name, context))

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def sessions(self) -> tuple[t.SessionInfo, ...]:
        return await self._ask(calls.sessions())

    async def create_session(
        self, *, title: str = "", model: str | None = None, system: str | None = None
    ) -> t.SessionInfo:
        return await self._ask(calls.create_session(title, model, system))

    async def session(self, id: str) -> t.SessionHistory:  # noqa: A002 (the API's name for it)
        return await self._ask(calls.session(id))

    async def delete_session(self, id: str) -> None:  # noqa: A002 (the API's name for it)
        return await self._ask(calls.delete_session(id))

    # --- templates --------------------------------------------------------------------------------------------------

    async def templates(self) -> tuple[t.TemplateInfo, ...]:
        return await self._ask(calls.templates())

    async def template(self, name: str) -> t.TemplateInfo:
        return await self._ask(calls.template(name))

    async def put_template(
        self, name: str, text: str, *, system: str | None = None, description: str = "", shared: bool = False
    ) -> t.TemplateInfo:
        """Gaps are {{name}}. shared: for everyone; only an administrator may."""
        return await self._ask(calls.put_template(name, text, system, description, shared))

    async def delete_template(self, name: str, *, shared: bool = False) -> None:
        return await self._ask(calls.delete_template(name, shared))

    async def render_template(self, name: str, variables: Mapping[str, str]) -> t.Rendered:
        return await self._ask(calls.render_template(name, variables))

    # --- the cluster ------------------------------------------------------------------------------------------------

    async def status(self) -> t.Status:
        return await self._ask(calls.status())

    async def metrics(self) -> t.Metrics:
        return await self._ask(calls.metrics())

    async def workers(self) -> tuple[t.WorkerInfo, ...]:
        return await self._ask(calls.workers())

    async def worker(self, name: str) -> t.WorkerInfo:
        return await self._ask(calls.worker(name))

    async def worker_metrics(self, name: str) -> t.WorkerMetrics:
        return await self._ask(calls.worker_metrics(name))

    async def register_worker(self, name: str, url: str, *, slots: int = 1, gpu: int = 0) -> t.WorkerInfo:
        return await self._ask(calls.register_worker(name, url, slots, gpu))

    async def unregister_worker(self, name: str) -> None:
        return await self._ask(calls.unregister_worker(name))

    async def cordon(self, name: str, reason: str = "") -> t.WorkerInfo:
        return await self._ask(calls.cordon(name, reason))

    async def drain(self, name: str, reason: str = "") -> t.WorkerInfo:
        return await self._ask(calls.drain(name, reason))

    async def resume(self, name: str) -> t.WorkerInfo:
        return await self._ask(calls.resume(name))

    # --- keys and usage ---------------------------------------------------------------------------------------------

    async def keys(self) -> tuple[t.KeyInfo, ...]:
        return await self._ask(calls.keys())

    async def create_key(
        self,
        name: str,
        *,
        priority: int = 0,
        role: t.UserRole = "user",
        limits: t.KeyLimits = _NO_LIMITS,
        models: Sequence[str] | None = None,
        days: int | None = None,
    ) -> t.NewKey:
        """The reply alone has the key itself. models: the only ones it may use; days: how long it is good."""
        return await self._ask(calls.create_key(name, priority, role, limits, models, days))

    async def revoke_key(self, name: str) -> None:
        return await self._ask(calls.revoke_key(name))

    async def whoami(self) -> t.WhoAmI:
        return await self._ask(calls.whoami())

    async def users(self) -> tuple[t.UserInfo, ...]:
        return await self._ask(calls.users())

    async def create_user(
        self,
        name: str,
        password: str,
        *,
        role: t.UserRole = "user",
        priority: int = 0,
        limits: t.KeyLimits = _NO_LIMITS,
        models: Sequence[str] | None = None,
    ) -> t.UserInfo:
        """models: the only ones they may use; None: all."""
        return await self._ask(calls.create_user(name, password, role, priority, limits, models))

    async def change_user(self, name: str, **changed: Any) -> t.UserInfo:
        """changed: password, role, priority, limits (as a mapping), models; what isn't named stays."""
        return await self._ask(calls.change_user(name, changed))

    async def remove_user(self, name: str) -> None:
        return await self._ask(calls.remove_user(name))

    async def end_logins(self, name: str) -> None:
        return await self._ask(calls.end_logins(name))

    async def usage(
        self,
        *,
        first: str | None = None,
        last: str | None = None,
        user: str | None = None,
        by: Sequence[Literal["day", "user", "model"]] | None = None,
    ) -> t.UsageReply:
        """Days are like 2026-11-24; without them, the last 30. by: what to keep apart."""
        return await self._ask(calls.usage(first, last, user, by))

    # --- tasks ------------------------------------------------------------------------------------------------------

    async def submit_task(
        self,
        kind: t.TaskKind,
        payload: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        **needs: Any,
    ) -> t.TaskInfo:
        """needs: cpu, memory, gpu, timeout, retries, priority, tags, idempotent."""
        return await self._ask(calls.submit_task(kind, payload, idempotency_key, needs))

    async def submit_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """All of them, or none; their ids in this order. Each has kind and payload, and may have what one has."""
        return await self._ask(calls.submit_tasks(tasks))

    async def tasks(
        self, *, state: str | None = None, tag: str | None = None, limit: int = 100
    ) -> tuple[t.TaskInfo, ...]:
        return await self._ask(calls.tasks(state, tag, limit))

    async def task(self, id: str) -> t.TaskInfo:  # noqa: A002 (the API's name for it)
        return await self._ask(calls.task(id))

    async def task_result(self, id: str) -> t.TaskResult:  # noqa: A002 (the API's name for it)
        """result, or where that is large the file that has it, for download."""
        return await self._ask(calls.task_result(id))

    async def download(self, file: t.ResultFile, to: str | PathLike[str] | IO[bytes]) -> None:
        """What is in a file, its digest checked. A connection that breaks is taken up where it broke.

        to: a path, where it appears whole or not at all (what had come stays beside it, for the next try); or a file
        that is open for writing bytes. Raises OSError too, where it can't be written.
        """
        with landing(file, to) as it:
            while not it.whole:
                before, broken = it.have, httpx.HTTPError("it ended too early")
                try:
                    path = f"/v1/files/{quote(file.id, safe='')}/content"
                    async with self._http.stream("GET", path, headers=it.headers) as response:
                        if response.is_error:
                            await response.aread()
                            raise failed(response)
                        it.begin(partial=response.status_code == 206)
                        async for piece in response.aiter_bytes():
                            it.write(piece)
                except httpx.HTTPError as e:
                    broken = e
                if it.have == before:
                    raise unreachable(broken) from broken

    async def cancel_task(self, id: str) -> t.TaskInfo:  # noqa: A002 (the API's name for it)
        return await self._ask(calls.cancel_task(id))
