"""What each role may: one table of action and resource, and one of which route does what. Nothing else decides.

A route that isn't in ROUTES is refused to everybody, whatever their role: a new one is let in by a line here. What a
role may, every role above it may too. What is a matter of degree (one's own tasks, or everybody's) is an entry of the
first table without a route; the handler asks for it by `User.may`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Rank = Literal["viewer", "user", "operator", "admin"]  # of people
Role = Literal[Rank, "service"]
ROLES: tuple[Rank, ...] = ("viewer", "user", "operator", "admin")  # each may what those before it may
SERVICE: Role = "service"  # stands beside them: it may nothing but what OF_SERVICES says

MEANING: Mapping[Role, str] = {
    "viewer": "looks: the cluster's state, its models and figures, and what they themselves used",
    "user": "uses models, with sessions, templates, tasks and batches of their own",
    "operator": "runs the cluster: drains workers, changes models, sees cluster.yaml, everybody's tasks and usage",
    "admin": "everything: users, keys, workers that join at run time, the audit log",
    "service": "no person, but a program that people use, which says with each request who asks",
}

# (action, resource) -> the least role that may.
LEAST: Mapping[tuple[str, str], Rank] = {
    ("see", "cluster"): "viewer",
    ("see", "models"): "viewer",
    ("see", "metrics"): "viewer",
    ("see", "rollouts"): "viewer",
    ("see", "usage"): "viewer",  # one's own
    ("change", "account"): "viewer",  # one's own: password, logout
    ("use", "models"): "user",
    ("use", "sessions"): "user",
    ("use", "templates"): "user",
    ("use", "tasks"): "user",
    ("use", "batches"): "user",
    ("steer", "workers"): "operator",  # cordon, drain, resume
    ("change", "models"): "operator",
    ("share", "templates"): "operator",
    ("oversee", "tasks"): "operator",  # everybody's
    ("see", "configuration"): "operator",
    ("oversee", "usage"): "operator",
    ("register", "workers"): "admin",
    ("manage", "keys"): "admin",
    ("manage", "users"): "admin",
    ("see", "audit"): "admin",
}
ACT_FOR_OTHERS = ("act", "for others")
OF_SERVICES = frozenset((("see", "models"), ACT_FOR_OTHERS))
EVERYTHING = (*LEAST, ACT_FOR_OTHERS)


@dataclass(frozen=True, slots=True)
class Need:
    """What a route does. audited: it changes something that others feel, so that the audit log tells of it."""

    action: str
    resource: str
    audited: bool = False

    @property
    def what(self) -> str:
        return f"{self.resource}.{self.action}"


_LOOK, _MODELS, _USE = Need("see", "cluster"), Need("see", "models"), Need("use", "models")
_CHANGE, _STEER = Need("change", "models", True), Need("steer", "workers", True)
_SESSIONS, _TEMPLATES, _TASKS = Need("use", "sessions"), Need("use", "templates"), Need("use", "tasks")
_BATCHES = Need("use", "batches")
_KEYS, _USERS, _ACCOUNT = Need("manage", "keys", True), Need("manage", "users", True), Need("change", "account", True)
_REGISTER = Need("register", "workers", True)
_V1 = "/api/v1"

# Paths that tell nothing but that something runs here, or that are how one logs in: no identity is asked for.
OPEN = frozenset(
    (
        "/health",
        "/",
        f"{_V1}/docs",
        f"{_V1}/login",
        f"{_V1}/login/refresh",
        f"{_V1}/login/oidc",
        "/.well-known/jwks.json",
    )
)

# (method, path) -> what it does; HEAD is as GET, unless it stands here.
ROUTES: Mapping[tuple[str, str], Need] = {
    ("GET", "/metrics"): Need("see", "metrics"),
    # Ollama's API
    ("GET", "/api/tags"): _MODELS,
    ("GET", "/api/ps"): _MODELS,
    ("GET", "/api/version"): _MODELS,
    ("POST", "/api/show"): _MODELS,
    ("POST", "/api/chat"): _USE,
    ("POST", "/api/generate"): _USE,
    ("POST", "/api/embed"): _USE,
    ("POST", "/api/embeddings"): _USE,
    ("POST", "/api/pull"): _CHANGE,
    ("POST", "/api/create"): _CHANGE,
    ("POST", "/api/copy"): _CHANGE,
    ("DELETE", "/api/delete"): _CHANGE,
    ("POST", "/api/push"): Need("change", "models"),
    ("POST", "/api/me"): _MODELS,
    ("HEAD", "/api/blobs/{digest}"): Need("change", "models"),
    ("POST", "/api/blobs/{digest}"): _CHANGE,
    # OpenAI's and Anthropic's
    ("GET", "/v1/models"): _MODELS,
    ("GET", "/v1/models/{model}"): _MODELS,
    ("POST", "/v1/chat/completions"): _USE,
    ("POST", "/v1/completions"): _USE,
    ("POST", "/v1/embeddings"): _USE,
    ("POST", "/v1/responses"): _USE,
    ("POST", "/v1/messages"): _USE,
    ("POST", "/v1/messages/count_tokens"): _USE,
    ("GET", "/v1/files"): _BATCHES,
    ("POST", "/v1/files"): _BATCHES,
    ("GET", "/v1/files/{file}"): _BATCHES,
    ("DELETE", "/v1/files/{file}"): Need("use", "batches", True),
    ("GET", "/v1/batches"): _BATCHES,
    ("POST", "/v1/batches"): _BATCHES,
    ("GET", "/v1/batches/{batch}"): _BATCHES,
    ("POST", "/v1/batches/{batch}"): Need("use", "batches", True),  # cancel
    # The native API
    ("GET", f"{_V1}/openapi.json"): _LOOK,
    ("POST", f"{_V1}/generate"): _USE,
    ("POST", f"{_V1}/chat"): _USE,
    ("GET", f"{_V1}/models"): _MODELS,
    ("GET", _V1 + "/models/{name:path}"): _MODELS,
    ("GET", _V1 + "/models/{name:path}/config"): _MODELS,
    ("GET", _V1 + "/models/{name:path}/explain"): _MODELS,
    ("PUT", _V1 + "/models/{name:path}/config"): _CHANGE,
    ("POST", _V1 + "/models/{name:path}/load"): _CHANGE,
    ("POST", _V1 + "/models/{name:path}/unload"): _CHANGE,
    ("GET", f"{_V1}/sessions"): _SESSIONS,
    ("POST", f"{_V1}/sessions"): _SESSIONS,
    ("GET", _V1 + "/sessions/{id}"): _SESSIONS,
    ("DELETE", _V1 + "/sessions/{id}"): _SESSIONS,
    ("GET", f"{_V1}/templates"): _TEMPLATES,
    ("GET", _V1 + "/templates/{name}"): _TEMPLATES,
    ("PUT", _V1 + "/templates/{name}"): _TEMPLATES,
    ("DELETE", _V1 + "/templates/{name}"): _TEMPLATES,
    ("POST", _V1 + "/templates/{name}/render"): _TEMPLATES,
    ("GET", f"{_V1}/tasks"): _TASKS,
    ("POST", f"{_V1}/tasks"): _TASKS,
    ("POST", f"{_V1}/tasks/bulk"): _TASKS,
    ("GET", _V1 + "/tasks/{id}"): _TASKS,
    ("GET", _V1 + "/tasks/{id}/result"): _TASKS,
    ("POST", _V1 + "/tasks/{id}/cancel"): Need("use", "tasks", True),
    ("GET", f"{_V1}/cluster/status"): _LOOK,
    ("GET", f"{_V1}/cluster/metrics"): _LOOK,
    ("GET", f"{_V1}/cluster/scaling"): _LOOK,
    ("GET", f"{_V1}/cluster/workers"): _LOOK,
    ("POST", f"{_V1}/cluster/workers"): _REGISTER,
    ("GET", _V1 + "/cluster/workers/{name}"): _LOOK,
    ("DELETE", _V1 + "/cluster/workers/{name}"): _REGISTER,
    ("GET", _V1 + "/cluster/workers/{name}/metrics"): _LOOK,
    ("POST", _V1 + "/cluster/workers/{name}/cordon"): _STEER,
    ("POST", _V1 + "/cluster/workers/{name}/drain"): _STEER,
    ("POST", _V1 + "/cluster/workers/{name}/resume"): _STEER,
    ("GET", f"{_V1}/rollouts"): Need("see", "rollouts"),
    ("GET", _V1 + "/rollouts/{id}"): Need("see", "rollouts"),
    ("GET", _V1 + "/rollouts/{id}/configuration"): Need("see", "configuration"),
    ("GET", f"{_V1}/plan"): Need("see", "configuration"),
    ("GET", f"{_V1}/keys"): Need("manage", "keys"),
    ("POST", f"{_V1}/keys"): _KEYS,
    ("DELETE", _V1 + "/keys/{name}"): _KEYS,
    ("GET", f"{_V1}/usage"): Need("see", "usage"),
    ("GET", f"{_V1}/users"): Need("manage", "users"),
    ("POST", f"{_V1}/users"): _USERS,
    ("PATCH", _V1 + "/users/{name}"): _USERS,
    ("DELETE", _V1 + "/users/{name}"): _USERS,
    ("DELETE", _V1 + "/users/{name}/logins"): _USERS,
    ("GET", f"{_V1}/whoami"): _LOOK,
    ("POST", f"{_V1}/logout"): _ACCOUNT,
    ("POST", f"{_V1}/password"): _ACCOUNT,
    ("GET", f"{_V1}/audit"): Need("see", "audit"),
}


def allows(role: Role, action: str, resource: str) -> bool:
    """What the table doesn't know, nobody may."""
    if role == "service":
        return (action, resource) in OF_SERVICES
    least = LEAST.get((action, resource))
    return least is not None and ROLES.index(role) >= ROLES.index(least)


def those_who_may(action: str, resource: str) -> tuple[Role, ...]:
    return tuple(role for role in (*ROLES, SERVICE) if allows(role, action, resource))


def need_of(method: str, path: str) -> Need | None:
    """path: a route's own, with its gaps."""
    found = ROUTES.get((method, path))
    return ROUTES.get(("GET", path)) if found is None and method == "HEAD" else found
