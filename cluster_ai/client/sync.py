"""The blocking client: made from aio.py by clients/generate.py. Not to be edited."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
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


class Client:
    """One gateway. Use it as `with Client(url, token) as client`; threads may share it.

    token: the cluster's, or a key of `cluster-ai keys`; none is needed in a trusted network. timeout: seconds until an
    answer begins, and between two pieces of it. ca: a PEM file with CAs that are trusted beside this machine's, such as
    `cluster-ai certs ca` prints. Every method raises ClientError (errors.py).
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout: float = ANSWER, ca: str | PathLike[str] | None = None
    ) -> None:
        self._http = httpx.Client(**options(url, token, timeout, ca))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _ask(self, call: Call[T]) -> T:
        try:
            response = self._http.request(**asked(call))
        except httpx.HTTPError as e:
            raise unreachable(e) from e
        return answered(call, response)

    def _stream(self, stream: Stream[T]) -> Generator[t.Text | T, None, None]:
        lines = Lines(stream)
        begun = False
        try:
            with self._http.stream("POST", stream.path, json=dict(stream.body)) as response:
                if response.is_error:
                    response.read()
                    raise failed(response)
                begun = True
                for line in response.iter_lines():
                    piece = lines.piece(line) if line else None
                    if piece is not None:
                        yield piece
        except httpx.HTTPError as e:
            raise (lines.broken(e) if begun else unreachable(e)) from e
        if lines.reply is None:
            raise lines.broken()
        yield lines.reply

    # --- generation -------------------------------------------------------------------------------------------------

    def generate(
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
        return self._ask(calls.generate(body))

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
    ) -> Generator[t.Text | t.GenerateReply, None, None]:
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

    def chat(
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
        return self._ask(calls.chat(body))

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
    ) -> Generator[t.Text | t.ChatReply, None, None]:
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

    def models(self) -> tuple[m.ModelInfo, ...]:
        return self._ask(calls.models())

    def model(self, name: str) -> m.ModelInfo:
        return self._ask(calls.model(name))

    def explain_model(self, name: str) -> m.ModelExplanation:
        """Why it is on these workers, and not on others."""
        return self._ask(calls.explain_model(name))

    def scaling(self) -> tuple[m.ScalingDecision, ...]:
        """What the autoscaler decided, the newest first."""
        return self._ask(calls.scaling())

    def load(self, name: str, *, worker: str | None = None, keep_alive: str | int | None = None) -> m.ModelChange:
        """On one worker, or wherever it is placed. keep_alive: seconds, or like 5m; negative: for ever."""
        return self._ask(calls.load(name, worker, keep_alive))

    def unload(self, name: str, *, worker: str | None = None) -> m.ModelChange:
        return self._ask(calls.unload(name, worker))

    def model_config(self, name: str) -> m.ModelConfig:
        return self._ask(calls.model_config(name))

    def set_model_config(self, name: str, *, context: int | None) -> m.ModelConfig:
        """Only of models that cluster.yaml doesn't name; else ConflictError."""
        return self._ask(calls.set_model_config(name, context))

    # --- sessions ---------------------------------------------------------------------------------------------------

    def sessions(self) -> tuple[t.SessionInfo, ...]:
        return self._ask(calls.sessions())

    def create_session(self, *, title: str = "", model: str | None = None, system: str | None = None) -> t.SessionInfo:
        return self._ask(calls.create_session(title, model, system))

    def session(self, id: str) -> t.SessionHistory:  # noqa: A002 (the API's name for it)
        return self._ask(calls.session(id))

    def delete_session(self, id: str) -> None:  # noqa: A002 (the API's name for it)
        return self._ask(calls.delete_session(id))

    # --- templates --------------------------------------------------------------------------------------------------

    def templates(self) -> tuple[t.TemplateInfo, ...]:
        return self._ask(calls.templates())

    def template(self, name: str) -> t.TemplateInfo:
        return self._ask(calls.template(name))

    def put_template(
        self, name: str, text: str, *, system: str | None = None, description: str = "", shared: bool = False
    ) -> t.TemplateInfo:
        """Gaps are {{name}}. shared: for everyone; only an administrator may."""
        return self._ask(calls.put_template(name, text, system, description, shared))

    def delete_template(self, name: str, *, shared: bool = False) -> None:
        return self._ask(calls.delete_template(name, shared))

    def render_template(self, name: str, variables: Mapping[str, str]) -> t.Rendered:
        return self._ask(calls.render_template(name, variables))

    # --- the cluster ------------------------------------------------------------------------------------------------

    def status(self) -> t.Status:
        return self._ask(calls.status())

    def metrics(self) -> t.Metrics:
        return self._ask(calls.metrics())

    def workers(self) -> tuple[t.WorkerInfo, ...]:
        return self._ask(calls.workers())

    def worker(self, name: str) -> t.WorkerInfo:
        return self._ask(calls.worker(name))

    def worker_metrics(self, name: str) -> t.WorkerMetrics:
        return self._ask(calls.worker_metrics(name))

    def register_worker(self, name: str, url: str, *, slots: int = 1, gpu: int = 0) -> t.WorkerInfo:
        return self._ask(calls.register_worker(name, url, slots, gpu))

    def unregister_worker(self, name: str) -> None:
        return self._ask(calls.unregister_worker(name))

    def cordon(self, name: str, reason: str = "") -> t.WorkerInfo:
        return self._ask(calls.cordon(name, reason))

    def drain(self, name: str, reason: str = "") -> t.WorkerInfo:
        return self._ask(calls.drain(name, reason))

    def resume(self, name: str) -> t.WorkerInfo:
        return self._ask(calls.resume(name))

    # --- keys and usage ---------------------------------------------------------------------------------------------

    def keys(self) -> tuple[t.KeyInfo, ...]:
        return self._ask(calls.keys())

    def create_key(
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
        return self._ask(calls.create_key(name, priority, role, limits, models, days))

    def revoke_key(self, name: str) -> None:
        return self._ask(calls.revoke_key(name))

    def whoami(self) -> t.WhoAmI:
        return self._ask(calls.whoami())

    def users(self) -> tuple[t.UserInfo, ...]:
        return self._ask(calls.users())

    def create_user(
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
        return self._ask(calls.create_user(name, password, role, priority, limits, models))

    def change_user(self, name: str, **changed: Any) -> t.UserInfo:
        """changed: password, role, priority, limits (as a mapping), models; what isn't named stays."""
        return self._ask(calls.change_user(name, changed))

    def remove_user(self, name: str) -> None:
        return self._ask(calls.remove_user(name))

    def end_logins(self, name: str) -> None:
        return self._ask(calls.end_logins(name))

    def usage(
        self,
        *,
        first: str | None = None,
        last: str | None = None,
        user: str | None = None,
        by: Sequence[Literal["day", "user", "model"]] | None = None,
    ) -> t.UsageReply:
        """Days are like 2026-11-24; without them, the last 30. by: what to keep apart."""
        return self._ask(calls.usage(first, last, user, by))

    # --- tasks ------------------------------------------------------------------------------------------------------

    def submit_task(
        self,
        kind: t.TaskKind,
        payload: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        **needs: Any,
    ) -> t.TaskInfo:
        """needs: cpu, memory, gpu, timeout, retries, priority, tags, idempotent."""
        return self._ask(calls.submit_task(kind, payload, idempotency_key, needs))

    def submit_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """All of them, or none; their ids in this order. Each has kind and payload, and may have what one has."""
        return self._ask(calls.submit_tasks(tasks))

    def tasks(self, *, state: str | None = None, tag: str | None = None, limit: int = 100) -> tuple[t.TaskInfo, ...]:
        return self._ask(calls.tasks(state, tag, limit))

    def task(self, id: str) -> t.TaskInfo:  # noqa: A002 (the API's name for it)
        return self._ask(calls.task(id))

    def task_result(self, id: str) -> t.TaskResult:  # noqa: A002 (the API's name for it)
        """result, or where that is large the file that has it, for download."""
        return self._ask(calls.task_result(id))

    def download(self, file: t.ResultFile, to: str | PathLike[str] | IO[bytes]) -> None:
        """What is in a file, its digest checked. A connection that breaks is taken up where it broke.

        to: a path, where it appears whole or not at all (what had come stays beside it, for the next try); or a file
        that is open for writing bytes. Raises OSError too, where it can't be written.
        """
        with landing(file, to) as it:
            while not it.whole:
                before, broken = it.have, httpx.HTTPError("it ended too early")
                try:
                    path = f"/v1/files/{quote(file.id, safe='')}/content"
                    with self._http.stream("GET", path, headers=it.headers) as response:
                        if response.is_error:
                            response.read()
                            raise failed(response)
                        it.begin(partial=response.status_code == 206)
                        for piece in response.iter_bytes():
                            it.write(piece)
                except httpx.HTTPError as e:
                    broken = e
                if it.have == before:
                    raise unreachable(broken) from broken

    def cancel_task(self, id: str) -> t.TaskInfo:  # noqa: A002 (the API's name for it)
        return self._ask(calls.cancel_task(id))
