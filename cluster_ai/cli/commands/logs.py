"""`cluster-ai logs`."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cluster_ai import layout
from cluster_ai.cli.monitoring import local_of, no_such, paths_of
from cluster_ai.cli.session import AskPassword, sudo_password
from cluster_ai.errors import HostError, UnavailableError, UsageError

if TYPE_CHECKING:
    from cluster_ai.cli.main import Invocation
    from cluster_ai.config.model import Host
    from cluster_ai.local.state import State

T = TypeVar("T")
ANYWHERE = (layout.VERIFY, layout.GUARD, layout.SWITCHING)


def command(
    ctx: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="Whose log, as `cluster-ai status` names it.")],
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

    Of the cluster that `cluster-ai up` started here, HOST is localhost, for all its parts, or a worker; each part has a
    file of its own, and --lines are counted in each.

    Exit code 3: the host can't be reached. 5: its log files here are gone. 64: it has no such component. 65: there is
    no such host.
    """
    local = local_of(ctx.obj)
    if local is not None:
        _show_files(ctx.obj, local, host, components or [], follow, since, lines)
        return
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


def _show_files(
    invocation: Invocation,
    local: State,
    host: str,
    components: Sequence[str],
    follow: bool,
    since: str | None,
    lines: int,
) -> None:
    from cluster_ai.local import logs

    if since:
        raise UsageError(
            "the parts of the cluster on this machine write files, which --since can't search",
            remedy="--lines says how many of the newest",
        )
    there = logs.files(paths_of(invocation), local.workers)
    if host not in there:
        raise no_such(host, list(there))
    if not there[host]:
        remedy = "they are made anew when it starts: cluster-ai down, then cluster-ai up"
        raise UnavailableError("its log files are gone", where=host, remedy=remedy)
    files = chosen(there[host], components, host)
    going_on = ["--follow=name", "--retry"] if follow else []
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run(["tail", f"--lines={lines}", *going_on, "--", *files], check=False)


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
    return [unit for units in chosen(by_name, components, host.name) for unit in units]


def chosen(there: Mapping[str, T], components: Sequence[str], host: str) -> list[T]:
    """What is there of the components that are named; none named: all. Raises UsageError where one isn't there."""
    for name in components:
        if name not in there:
            raise UsageError(f"there is no component {name!r}", where=host, remedy=f"it has: {', '.join(there)}")
    return [there[name] for name in components or there]
