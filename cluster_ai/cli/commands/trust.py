"""`cluster-ai trust`"""

from __future__ import annotations

from typing import Annotated

import typer

from cluster_ai.errors import ExitCode, UsageError


def command(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[HOST]...", help="Hosts; none: all.")] = None,
    fingerprint: Annotated[
        list[str] | None,
        typer.Option("--fingerprint", metavar="SHA256:...", help="What a host must show; then nobody is asked."),
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Believe their keys no more.")] = False,
) -> None:
    """Show the SSH keys of hosts, and write those that you confirm into known_hosts beside cluster.yaml.

    Every other command speaks only to hosts whose key is there. Commit the file: then whoever works with the cluster
    believes the same. Exit code 3: a host stays unbelieved.
    """
    from cluster_ai.cli.trusting import trust
    from cluster_ai.inventory import known_hosts
    from cluster_ai.rollout.scope import Scope

    config = ctx.obj.config()
    scope = Scope(config, tuple(dict.fromkeys(names or ())))
    if not forget:
        if trust(config, [host.name for host in scope.hosts], fingerprint or ()):
            raise typer.Exit(ExitCode.HOST)
        return
    if not names:
        raise UsageError("whose keys are to be forgotten?", remedy="cluster-ai trust --forget HOST")
    file = known_hosts.path(config)
    for host in scope.hosts:
        there = known_hosts.forget(file, [known_hosts.name_of(config.ssh, host.address)])
        print(f"{host.name}: {'forgotten' if there else f'{file} has no key of it'}")
