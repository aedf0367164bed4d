"""What `cordon`, `drain` and `undrain` share: which workers are meant, and telling the gateway."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster_ai.cli.gateway import find
from cluster_ai.cli.monitoring import local_of, no_such
from cluster_ai.cli.session import sudo_password
from cluster_ai.errors import ConfigError, HostError, RolloutError, UnavailableError
from cluster_ai.sizes import counted

if TYPE_CHECKING:
    from cluster_ai.cli.main import Invocation
    from cluster_ai.config import Config
    from cluster_ai.local.state import State
    from cluster_ai.rollout.traffic import Ask, Seen

Workers = Annotated[list[str], typer.Argument(metavar="HOST...", help="Workers, as `cluster-ai status` names them.")]
Reason = Annotated[str, typer.Option("--reason", help="For others who look at the status.", show_default="your name")]


@dataclass(frozen=True, slots=True)
class Told:
    """The workers that are meant, and the gateway that knows all of them."""

    names: tuple[str, ...]
    ask: Ask

    def post(self, what: str, reason: str | None = None) -> dict[str, Seen]:
        """Each of them, as the gateway answers. reason None: none is sent."""
        from cluster_ai.rollout.traffic import LONGEST, Seen, post

        found = {}
        for name in self.names:
            body = None if reason is None else {"reason": (reason or f"by {getpass.getuser()}")[:LONGEST]}
            status, answer = post(self.ask, name, what, body)
            if status != 200:
                raise RolloutError(f"the gateway answers {status}: {_words(answer)}", where=name)
            found[name] = Seen.of(answer)
        return found


def told(invocation: Invocation, workers: Sequence[str], ask_sudo_password: bool) -> Told:
    """Raises before anything is done where a name is wrong, or the gateway away or ignorant of it."""
    from cluster_ai.rollout.traffic import look

    names = tuple(dict.fromkeys(workers))
    local = local_of(invocation)
    if local is not None:
        ask = _on_this_machine(invocation, local, names)
    else:
        ask = _on_hosts(invocation.config(), names, sudo_password(ask_sudo_password))
    try:
        known = look(ask)
    except HostError as error:
        what = f"the gateway can't be asked: {error.what}"
        raise UnavailableError(what, where=error.where, remedy=error.remedy) from error
    for name in names:
        if name not in known:
            raise UnavailableError("the gateway doesn't know this worker", where=name, remedy="cluster-ai apply")
    return Told(names, ask)


def _on_this_machine(invocation: Invocation, local: State, names: Sequence[str]) -> Ask:
    for name in names:
        if name not in local.workers:
            raise no_such(name, local.workers)
    from cluster_ai.rollout.traffic import TIMEOUT

    client = find(invocation, None)

    def ask(method: str, path: str, body: dict[str, Any] | None = None, *, timeout: float = TIMEOUT) -> tuple[int, Any]:
        return HTTPStatus.OK, client.ask(method, path, body, timeout=timeout)  # another status is raised

    return ask


def _on_hosts(config: Config, names: tuple[str, ...], password: str | None) -> Ask:
    from cluster_ai.rollout import credentials
    from cluster_ai.rollout.scope import Scope

    scope = Scope(config, names, password)
    idle = [host.name for host in scope.hosts if host.worker is None]
    if idle:
        raise ConfigError(f"{idle[0]!r} is no worker", where=str(config.path), remedy="only workers are sent requests")
    return scope.gateway(credentials.token(config)).ask


def as_json(seen: dict[str, Seen]) -> dict[str, Any]:
    workers = [
        {
            "worker": name,
            "state": it.state,
            "reason": it.reason or None,
            "requests": it.requests,
            "tasks": it.tasks,
            "results": it.results,
            "untold": it.untold or None,
        }
        for name, it in seen.items()
    ]
    return {"format": 1, "workers": workers}


def words(seen: Seen) -> str:
    """What is left, for people: "3 requests and 1 Dask task"."""
    counts = ((seen.requests, "request"), (seen.tasks, "Dask task"), (seen.results, "Dask result"))
    parts = [counted(count, what) for count, what in counts if count]
    if seen.tasks is None or seen.results is None:
        parts.append("what Dask has there")
    return " and ".join(([", ".join(parts[:-1])] if parts[:-1] else []) + parts[-1:]) or "nothing"


def _words(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    return str(error.get("message", error) if isinstance(error, dict) else error or answer)[:300]
