"""What the commands that go to hosts share: options, scope, and asking hosts while the rest is still being read."""

from __future__ import annotations

import dataclasses
import getpass
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_ai.errors import ClusterAIError, HostError, HostKeyError

if TYPE_CHECKING:
    from cluster_ai.cli.main import Invocation
    from cluster_ai.config.override import Override
    from cluster_ai.placement.place import Placement
    from cluster_ai.rollout.observe import Observed
    from cluster_ai.rollout.scope import Scope

PASSWORD = "CLUSTER_AI_SUDO_PASSWORD"  # noqa: S105 (a variable's name)

Limit = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="HOST", help="Only these hosts: several with commas, or the option again."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
AskPassword = Annotated[
    bool, typer.Option("--ask-sudo-password", help=f"Ask for sudo's password; else it is taken from ${PASSWORD}.")
]


def names(limit: Sequence[str] | None) -> tuple[str, ...]:
    """Host names out of `--limit a,b --limit c`."""
    return tuple(dict.fromkeys(name for item in limit or () for name in item.split(",") if name))


def sudo_password(ask: bool) -> str | None:
    if not ask:
        return os.environ.get(PASSWORD)
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"there is no terminal to ask on: set {PASSWORD} instead of --ask-sudo-password")
    return getpass.getpass("sudo password on the hosts: ")


@dataclass(frozen=True, slots=True)
class Session:
    scope: Scope
    placement: Placement
    seen: Mapping[str, Observed | HostError]


def look(
    invocation: Invocation,
    limit: Sequence[str] | None,
    ask_sudo_password: bool,
    override: Override | None = None,
) -> Session:
    """Ask the hosts; place models meanwhile."""
    password = sudo_password(ask_sudo_password)
    config = invocation.config()
    if override:
        from cluster_ai.config.override import overridden

        config = overridden(config, override)
    from cluster_ai.rollout.scope import Scope

    scope = Scope(config, names(limit), password)
    probe = scope.probe()
    try:
        from cluster_ai.placement.place import place

        placement = place(config)
        import cluster_ai.rollout.survey  # noqa: F401 (its import takes long, so now, while ssh connects)

        seen = probe.results()
    finally:
        probe.cancel()
    unknown = [name for name, it in seen.items() if isinstance(it, HostKeyError) and not it.changed]
    if unknown and sys.stdin.isatty():
        from cluster_ai.cli.trusting import trust

        trust(config, unknown)
        scope = dataclasses.replace(scope, config=dataclasses.replace(config, ssh=invocation.config().ssh))
        seen |= scope.probe(unknown).results()
    return Session(scope, placement, seen)


def say(error: ClusterAIError) -> None:
    """An error beside which the command goes on."""
    print(error, file=sys.stderr)
