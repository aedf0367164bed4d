"""`cluster-ai drain`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_ai.cli.draining import Reason, Workers, as_json, told, words
from cluster_ai.cli.session import AskPassword, Json
from cluster_ai.config.units import format_duration, parse_duration
from cluster_ai.errors import ErrorGroup, HostError, RolloutError, UnavailableError

if TYPE_CHECKING:
    from cluster_ai.rollout.traffic import Seen

POLL = 1.0  # seconds


def command(
    ctx: typer.Context,
    hosts: Workers,
    reason: Reason = "",
    timeout: Annotated[str, typer.Option("--timeout", help="How long what is under way may take to end.")] = "120s",
    json_: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Take workers out of rotation and wait until they are empty: no request, no Dask task, no result only they hold.

    They stay so, over restarts of theirs and of the gateway, until undrain; so they also do when this is stopped.
    Exit code 0: they are empty. 4: something was still under way when the time was over. 5: the gateway doesn't answer.
    65: there is no such worker.
    """
    limit = seconds(timeout)
    gateway = told(ctx.obj, hosts, ask_sudo_password)
    seen = gateway.post("drain", reason)
    from cluster_ai.rollout.traffic import look

    shown = None if json_ else _say
    seen = wait(seen, lambda: look(gateway.ask), limit, shown)
    if json_:
        print(json.dumps(as_json(seen), indent=2))
    late = {name: it for name, it in seen.items() if it.left}
    if late:
        raise ErrorGroup(_late(name, it, timeout) for name, it in late.items())


def seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; it is written like 90s or 5m", param_hint="--timeout") from error


def wait(
    seen: dict[str, Seen],
    look: Callable[[], dict[str, Seen]],
    limit: float,
    say: Callable[[str, Seen], None] | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Seen]:
    """Until all of them are empty, or the limit; what they were last. A gateway that restarts meanwhile is asked on."""
    end, before = clock() + limit, dict[str, str]()
    while True:
        for name, it in seen.items():
            text = words(it)
            if say and before.get(name) != text:
                say(name, it)
            before[name] = text
        if not any(it.left for it in seen.values()) or clock() >= end:
            return seen
        sleep(POLL)
        try:
            now = look()
        except (UnavailableError, HostError):
            continue
        seen = {name: now.get(name, it) for name, it in seen.items()}


def _say(name: str, it: Seen) -> None:
    if it.left:
        print(f"{name}: {words(it)} left", flush=True)
        return
    print(f"{name}: empty{f'; {it.reason}' if it.reason else ''}", flush=True)
    if it.untold:
        print(f"{name}: Dask isn't told of it: {it.untold}", file=sys.stderr)


def _late(name: str, it: Seen, timeout: str) -> RolloutError:
    return RolloutError(
        f"still has {words(it)} after {format_duration(seconds(timeout))}; it gets nothing new",
        where=name,
        remedy=f"wait longer: cluster-ai drain {name} --timeout 10m; or give it up: cluster-ai undrain {name}",
    )
