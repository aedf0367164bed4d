"""Every request as data: what is sent, and how its answer is read. The two clients only carry them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from cluster_ai.client import model_types as m
from cluster_ai.client import types as t
from cluster_ai.client.wire import reader

T = TypeVar("T")
PREFIX = "/api/v1"
Messages = Sequence[t.Message | Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    read: Callable[[Any], T]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream(Generic[T]):
    """A request whose answer comes line by line. text: of one line; read: the closing line."""

    path: str
    body: Mapping[str, Any]
    text: Callable[[Mapping[str, Any]], str]
    read: Callable[[Any], T]


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _at(*parts: str) -> str:
    """Slashes in a name stay: models' names have some."""
    return "/".join((PREFIX, *(quote(part, safe="/") for part in parts)))


def _nothing(answer: Any) -> None:
    return None


def generate_body(
    model: str,
    prompt: str | None,
    *,
    template: str | None,
    variables: Mapping[str, str] | None,
    system: str | None,
    options: Mapping[str, Any] | None,
    format: Literal["json"] | Mapping[str, Any] | None,  # noqa: A002 (Ollama's name for it)
    mode: t.Mode,
) -> dict[str, Any]:
    return _given(
        model=model,
        prompt=prompt,
        template=template,
        variables=variables,
        system=system,
        options=options,
        format=format,
        mode=mode,
    )


def generate(body: Mapping[str, Any]) -> Call[t.GenerateReply]:
    return Call("POST", _at("generate"), reader(t.GenerateReply), body)


def stream_generate(body: Mapping[str, Any]) -> Stream[t.GenerateReply]:
    def text(line: Mapping[str, Any]) -> str:
        return str(line.get("response") or "")

    return Stream(_at("generate"), {**body, "stream": True}, text, reader(t.GenerateReply))


def chat_body(
    messages: Messages,
    *,
    model: str | None,
    session: str | None,
    template: str | None,
    variables: Mapping[str, str] | None,
    system: str | None,
    options: Mapping[str, Any] | None,
    format: Literal["json"] | Mapping[str, Any] | None,  # noqa: A002 (Ollama's name for it)
    mode: t.Mode,
) -> dict[str, Any]:
    said = [asdict(message) if isinstance(message, t.Message) else dict(message) for message in messages]
    return _given(
        messages=said,
        model=model,
        session=session,
        template=template,
        variables=variables,
        system=system,
        options=options,
        format=format,
        mode=mode,
    )


def chat(body: Mapping[str, Any]) -> Call[t.ChatReply]:
    return Call("POST", _at("chat"), reader(t.ChatReply), body)


def stream_chat(body: Mapping[str, Any]) -> Stream[t.ChatReply]:
    def text(line: Mapping[str, Any]) -> str:
        message = line.get("message")
        return str(message.get("content") or "") if isinstance(message, Mapping) else ""

    return Stream(_at("chat"), {**body, "stream": True}, text, reader(t.ChatReply))


def models() -> Call[tuple[m.ModelInfo, ...]]:
    return Call("GET", _at("models"), reader(tuple[m.ModelInfo, ...], "models"))


def model(name: str) -> Call[m.ModelInfo]:
    return Call("GET", _at("models", name), reader(m.ModelInfo))


def explain_model(name: str) -> Call[m.ModelExplanation]:
    return Call("GET", _at("models", name, "explain"), reader(m.ModelExplanation))


def scaling() -> Call[tuple[m.ScalingDecision, ...]]:
    return Call("GET", _at("cluster", "scaling"), reader(tuple[m.ScalingDecision, ...], "decisions"))


def load(name: str, worker: str | None, keep_alive: str | int | None) -> Call[m.ModelChange]:
    body = _given(worker=worker, keep_alive=keep_alive)
    return Call("POST", _at("models", name, "load"), reader(m.ModelChange), body)


def unload(name: str, worker: str | None) -> Call[m.ModelChange]:
    return Call("POST", _at("models", name, "unload"), reader(m.ModelChange), _given(worker=worker))


def model_config(name: str) -> Call[m.ModelConfig]:
    return Call("GET", _at("models", name, "config"), reader(m.ModelConfig))


def set_model_config(name: str, context: int | None) -> Call[m.ModelConfig]:
    return Call("PUT", _at("models", name, "config"), reader(m.ModelConfig), {"context": context})


def sessions() -> Call[tuple[t.SessionInfo, ...]]:
    return Call("GET", _at("sessions"), reader(tuple[t.SessionInfo, ...], "sessions"))


def create_session(title: str, model: str | None, system: str | None) -> Call[t.SessionInfo]:
    return Call("POST", _at("sessions"), reader(t.SessionInfo), _given(title=title, model=model, system=system))


def session(id: str) -> Call[t.SessionHistory]:  # noqa: A002 (the API's name for it)
    return Call("GET", _at("sessions", id), reader(t.SessionHistory))


def delete_session(id: str) -> Call[None]:  # noqa: A002 (the API's name for it)
    return Call("DELETE", _at("sessions", id), _nothing)


def templates() -> Call[tuple[t.TemplateInfo, ...]]:
    return Call("GET", _at("templates"), reader(tuple[t.TemplateInfo, ...], "templates"))


def template(name: str) -> Call[t.TemplateInfo]:
    return Call("GET", _at("templates", name), reader(t.TemplateInfo))


def put_template(name: str, text: str, system: str | None, description: str, shared: bool) -> Call[t.TemplateInfo]:
    body = _given(text=text, system=system, description=description, shared=shared)
    return Call("PUT", _at("templates", name), reader(t.TemplateInfo), body)


def delete_template(name: str, shared: bool) -> Call[None]:
    return Call("DELETE", _at("templates", name), _nothing, query={"shared": "true"} if shared else {})


def render_template(name: str, variables: Mapping[str, str]) -> Call[t.Rendered]:
    return Call("POST", _at("templates", name, "render"), reader(t.Rendered), {"variables": dict(variables)})


def status() -> Call[t.Status]:
    return Call("GET", _at("cluster", "status"), reader(t.Status))


def metrics() -> Call[t.Metrics]:
    return Call("GET", _at("cluster", "metrics"), reader(t.Metrics))


def workers() -> Call[tuple[t.WorkerInfo, ...]]:
    return Call("GET", _at("cluster", "workers"), reader(tuple[t.WorkerInfo, ...], "workers"))


def worker(name: str) -> Call[t.WorkerInfo]:
    return Call("GET", _at("cluster", "workers", name), reader(t.WorkerInfo))


def worker_metrics(name: str) -> Call[t.WorkerMetrics]:
    return Call("GET", _at("cluster", "workers", name, "metrics"), reader(t.WorkerMetrics))


def register_worker(name: str, url: str, slots: int, gpu: int) -> Call[t.WorkerInfo]:
    body = {"name": name, "url": url, "slots": slots, "gpu": gpu}
    return Call("POST", _at("cluster", "workers"), reader(t.WorkerInfo), body)


def unregister_worker(name: str) -> Call[None]:
    return Call("DELETE", _at("cluster", "workers", name), _nothing)


def cordon(name: str, reason: str) -> Call[t.WorkerInfo]:
    return Call("POST", _at("cluster", "workers", name, "cordon"), reader(t.WorkerInfo), {"reason": reason})


def drain(name: str, reason: str) -> Call[t.WorkerInfo]:
    return Call("POST", _at("cluster", "workers", name, "drain"), reader(t.WorkerInfo), {"reason": reason})


def resume(name: str) -> Call[t.WorkerInfo]:
    return Call("POST", _at("cluster", "workers", name, "resume"), reader(t.WorkerInfo))


def keys() -> Call[tuple[t.KeyInfo, ...]]:
    return Call("GET", _at("keys"), reader(tuple[t.KeyInfo, ...], "keys"))


def create_key(
    name: str, priority: int, role: t.UserRole, limits: t.KeyLimits, models: Sequence[str] | None, days: int | None
) -> Call[t.NewKey]:
    body = {"name": name, "priority": priority, "role": role, "limits": asdict(limits)}
    body |= _given(models=list(models) if models is not None else None, days=days)
    return Call("POST", _at("keys"), reader(t.NewKey), body)


def revoke_key(name: str) -> Call[None]:
    return Call("DELETE", _at("keys", name), _nothing)


def whoami() -> Call[t.WhoAmI]:
    return Call("GET", _at("whoami"), reader(t.WhoAmI))


def users() -> Call[tuple[t.UserInfo, ...]]:
    return Call("GET", _at("users"), reader(tuple[t.UserInfo, ...], "users"))


def create_user(
    name: str, password: str, role: t.UserRole, priority: int, limits: t.KeyLimits, models: Sequence[str] | None
) -> Call[t.UserInfo]:
    body = {"name": name, "password": password, "role": role, "priority": priority, "limits": asdict(limits)}
    return Call("POST", _at("users"), reader(t.UserInfo), body | _given(models=list(models) if models else models))


def change_user(name: str, body: Mapping[str, Any]) -> Call[t.UserInfo]:
    return Call("PATCH", _at("users", name), reader(t.UserInfo), body)


def remove_user(name: str) -> Call[None]:
    return Call("DELETE", _at("users", name), _nothing)


def end_logins(name: str) -> Call[None]:
    return Call("DELETE", _at("users", name, "logins"), _nothing)


def usage(first: str | None, last: str | None, user: str | None, by: Sequence[str] | None) -> Call[t.UsageReply]:
    query = _given(first=first, last=last, user=user, by=list(by) if by is not None else None)
    return Call("GET", _at("usage"), reader(t.UsageReply), query=query)


def submit_task(
    kind: t.TaskKind,
    payload: Mapping[str, Any],
    idempotency_key: str | None,
    needs: Mapping[str, Any],
) -> Call[t.TaskInfo]:
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
    body = {"kind": kind, "payload": dict(payload), **needs}
    return Call("POST", _at("tasks"), reader(t.TaskInfo), body, headers=headers)


def submit_tasks(tasks: Sequence[Mapping[str, Any]]) -> Call[tuple[str, ...]]:
    return Call("POST", _at("tasks", "bulk"), reader(tuple[str, ...], "ids"), {"tasks": [dict(it) for it in tasks]})


def tasks(state: str | None, tag: str | None, limit: int) -> Call[tuple[t.TaskInfo, ...]]:
    query = _given(state=state, tag=tag, limit=limit)
    return Call("GET", _at("tasks"), reader(tuple[t.TaskInfo, ...], "tasks"), query=query)


def task(id: str) -> Call[t.TaskInfo]:  # noqa: A002 (the API's name for it)
    return Call("GET", _at("tasks", id), reader(t.TaskInfo))


def task_result(id: str) -> Call[t.TaskResult]:  # noqa: A002 (the API's name for it)
    return Call("GET", _at("tasks", id, "result"), reader(t.TaskResult))


def cancel_task(id: str) -> Call[t.TaskInfo]:  # noqa: A002 (the API's name for it)
    return Call("POST", _at("tasks", id, "cancel"), reader(t.TaskInfo))
