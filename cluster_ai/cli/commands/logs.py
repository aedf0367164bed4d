"""`cluster-ai logs`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_ai import layout
from cluster_ai.cli.session import AskPassword, sudo_password
from cluster_ai.errors import HostError, UsageError

if TYPE_CHECKING:
    from cluster_ai.config.model import Host

ANYWHERE = (layout.VERIFY, layout.GUARD, layout.SWITCHING)


def command(
    ctx: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="Whose log, as cluster.yaml names it.")],
    components: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMPONENT", help="Such as engine, front, gateway; else all of ours."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Only what is newer, as journalctl takes it: '1 hour ago', today.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="As many of the newest.")] = 100,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Show what the cluster's parts on a host wrote into its journal, the newest last.

    Exit code 3: the host can't be reached. 64: it has no such component. 65: there is no such host.
    """
    from cluster_ai.provision import ssh
    from cluster_ai.rollout.scope import Scope

    scope = Scope(ctx.obj.config(), (host,), sudo_password(ask_sudo_password))
    (wanted,) = scope.hosts
    words = ["journalctl", "--no-pager", "--output=short-iso", f"--lines={lines}"]
    words += ["--follow"] if follow else []
    words += [f"--since={since}"] if since else []
    words += [f"--unit={unit}" for unit in units(wanted, components or [])]
    call = ssh.Call(host, scope.argv()[host], shlex.join(words))
    try:
        reply = ssh.stream(call, sudo_password=scope.sudo_password)
    except KeyboardInterrupt:
        return
    if reply.returncode:
        last = (reply.stderr.strip().splitlines() or [f"exit code {reply.returncode}"])[-1]
        raise HostError(
            f"journalctl says: {last}",
            where=host,
            remedy="--since takes what `man systemd.time` has, such as '1 hour ago'",
        )


def units(host: Host, components: list[str]) -> list[str]:
    """The units of components there, as journalctl's --unit takes them. Raises UsageError where one isn't there."""
    there = [
        *(layout.HEAD_UNITS if "head" in host.roles else ()),
        *(layout.WORKER_UNITS if host.worker else ()),
        *ANYWHERE,
    ]
    by_name: dict[str, list[str]] = {}
    for unit in there:
        name = unit.removeprefix("cluster-ai-").partition(".")[0].removesuffix("@")
        by_name.setdefault(name, []).append(unit.replace("@.", "@*."))
    for name in components:
        if name not in by_name:
            raise UsageError(
                f"there is no component {name!r} on {host.name}",
                where=host.name,
                remedy=f"it has: {', '.join(by_name)}",
            )
    return [unit for name in components or by_name for unit in by_name[name]]
