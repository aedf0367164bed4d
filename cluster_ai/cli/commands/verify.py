"""`cluster-ai verify`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from cluster_ai.cli.session import AskPassword, Json, Limit, names, say, sudo_password
from cluster_ai.errors import ExitCode, HostError

if TYPE_CHECKING:
    from cluster_ai.provision.ssh import Reply
    from cluster_ai.rollout.observe import Observed

TIMEOUT = 300.0  # seconds; every file of a release is read


def command(
    ctx: typer.Context,
    limit: Limit = None,
    as_json: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Look for what was changed on the hosts by others: every file of the release is read there, every unit looked at.

    Exit code 0: hosts are what cluster.yaml says. 2: something differs. 3: a host can't be asked.
    """
    config = ctx.obj.config()
    from cluster_ai import layout
    from cluster_ai.provision.ssh import Batch, Call, Reply
    from cluster_ai.rollout import observe
    from cluster_ai.rollout.scope import Scope

    scope = Scope(config, names(limit), sudo_password(ask_sudo_password))
    current = layout.CURRENT
    agent = (
        str(current / "bin/launch"),
        "python3",
        "-m",
        "cluster_ai.host",
        "verify",
        "--json",
        str(current / "etc/host.json"),
    )
    script = f"{observe.SCRIPT}\nexec {shlex.join(agent)}"
    calls = [Call(host, argv, script) for host, argv in scope.argv().items()]
    batch = Batch(calls, sudo_password=scope.sudo_password, timeout=TIMEOUT).start()
    from cluster_ai.placement import place
    from cluster_ai.rollout import survey

    placement = place(config)
    replies = batch.results()
    seen: dict[str, Observed | HostError] = {}
    for host in scope.hosts:
        reply = replies[host.name]
        try:
            seen[host.name] = observe.parse(host.name, reply.text) if isinstance(reply, Reply) else reply
        except HostError as error:
            seen[host.name] = error
    plan = survey.take(scope, placement, seen).plan
    found = {it.host: drift(replies[it.host], it.release_from, it.release_to, it.host_layer) for it in plan.hosts}
    _print(found, plan.errors, as_json)
    if plan.errors:
        raise typer.Exit(ExitCode.HOST)
    if any(found.values()):
        raise typer.Exit(ExitCode.CHANGES)


def drift(reply: Reply | HostError, running: str | None, wanted: str, host_layer: str) -> dict[str, str]:
    """What differs on a host: thing -> how."""
    different = {}
    if host_layer:
        different["host layer"] = host_layer
    if running is None:
        return {**different, "release": "none"}
    if running != wanted:
        different["release"] = f"is {running[:12]}, should be {wanted[:12]}"
    if isinstance(reply, HostError):
        return different
    try:
        said: dict[str, Any] = json.loads(reply.text.strip().splitlines()[-1])
        return {**different, **said["files"], **said["units"]}
    except (ValueError, KeyError, IndexError, TypeError):
        last = (reply.stderr.strip().splitlines() or [f"exit code {reply.returncode}"])[-1]
        return {**different, "agent": f"the release's own agent fails: {last}"}


def _print(found: Mapping[str, Mapping[str, str]], errors: tuple[HostError, ...], as_json: bool) -> None:
    if as_json:
        from cluster_ai.cli.render import error_json

        hosts = [{"host": host, "drift": dict(different)} for host, different in found.items()]
        print(json.dumps({"format": 1, "hosts": hosts, "errors": [error_json(error) for error in errors]}, indent=2))
        return
    for host, different in found.items():
        if not different:
            print(f"{host}: as cluster.yaml says")
        for thing, how in different.items():
            print(f"{host}: {thing}: {how}")
    if any(found.values()):
        print("cluster-ai apply makes it so again.")
    for error in errors:
        say(error)
