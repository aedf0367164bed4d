"""`cluster-ai certs`: the cluster's certificates, which hosts renew by themselves, and their CA."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cluster_ai.cli.session import AskPassword, Json, say, sudo_password
from cluster_ai.errors import ClusterAIError, ExitCode

if TYPE_CHECKING:
    from cluster_ai.deploys.data import Event
    from cluster_ai.rollout.scope import Scope

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(ctx: typer.Context, as_json: Json = False, ask_sudo_password: AskPassword = False) -> None:
    """Say which CAs count, and how long each host's certificate is valid.

    Exit code 0: all is well. 2: a host lacks something that the cluster has. 3: a host can't be asked.
    """
    from cluster_ai.errors import HostError
    from cluster_ai.rollout import certs

    scope = _scope(ctx, ask_sudo_password)
    authorities, notes = certs.authorities(scope), certs.notes(scope)
    seen = scope.probe().results()
    leaves = certs.leaves(scope, seen)
    if as_json:
        told = {
            "authorities": [
                {"use": it.use, "name": it.name, "sha256": it.fingerprint, "end": it.end.isoformat()}
                for it in authorities
            ],
            "hosts": [
                {"host": it.host, "end": it.end.isoformat() if it.end else None, "current": it.current, "note": it.note}
                for it in leaves
            ],
            "notes": notes,
        }
        print(json.dumps(told, indent=2))
    else:
        for authority in authorities:
            print(f"{authority.use}: {authority.name}, until {authority.end:%Y-%m-%d}")
            print(f"  SHA-256 {authority.fingerprint}")
        width = max(len(it.host) for it in leaves)
        for leaf in leaves:
            end = f"until {leaf.end:%Y-%m-%d %H:%M} UTC" if leaf.end else "-"
            old = "" if leaf.current or leaf.note else "is to learn of other roots or hosts: cluster-ai apply"
            print("  ".join(filter(None, (leaf.host.ljust(width), end, leaf.note or old))))
        for note in notes:
            print(note)
    if any(isinstance(it, HostError) for it in seen.values()):
        raise typer.Exit(ExitCode.HOST)
    if not all(leaf.current and not leaf.note for leaf in leaves):
        raise typer.Exit(ExitCode.CHANGES)


@app.command()
def ca(ctx: typer.Context) -> None:
    """Print the roots that count, as PEM: what programs outside of the cluster are to trust."""
    from cluster_ai.security.credentials import existing

    sys.stdout.write(existing(ctx.obj.config()).trust.decode())


@app.command()
def rotate(
    ctx: typer.Context,
    what: Annotated[
        Literal["issuing", "root"],
        typer.Argument(help="issuing: the CA that signs hosts' certificates. root: what all trust, and all below it."),
    ],
    ask_sudo_password: AskPassword = False,
) -> None:
    """Make another CA, and give every host a certificate of it, while everything runs: no request is lost.

    The old root stays trusted until `cluster-ai certs retire`, so that clients of the gateway have time to learn of the
    new one. A host that is off keeps a change of the root from being used: run it again when the host is back.

    Exit code 0: done. 3: a host can't be reached. 75: another run changes this cluster.
    """
    from cluster_ai.rollout import certs

    def change(scope: Scope, on_event: Callable[[Event], None]) -> Mapping[str, ClusterAIError]:
        return (certs.rotate_root if what == "root" else certs.rotate_issuing)(scope, on_event)

    _change(ctx, f"cluster-ai certs rotate {what}", ask_sudo_password, change)
    if what == "root":
        print("The root before is trusted still. When clients know the new one: cluster-ai certs retire")


@app.command()
def retire(ctx: typer.Context, ask_sudo_password: AskPassword = False) -> None:
    """Trust our root alone: no longer the one before.

    Exit code 0: done. 3: a host can't be reached. 75: another run changes this cluster.
    """
    from cluster_ai.rollout import certs

    _change(ctx, "cluster-ai certs retire", ask_sudo_password, certs.retire)


def _scope(ctx: typer.Context, ask_sudo_password: bool) -> Scope:
    from cluster_ai.rollout.scope import Scope

    return Scope(ctx.obj.config(), (), sudo_password(ask_sudo_password))


def _change(
    ctx: typer.Context,
    doing: str,
    ask_sudo_password: bool,
    change: Callable[[Scope, Callable[[Event], None]], Mapping[str, ClusterAIError]],
) -> None:
    from cluster_ai.rollout import certs
    from cluster_ai.rollout.records import locked

    with locked(ctx.obj.config_path, doing):
        scope = _scope(ctx, ask_sudo_password)
        certs.require_ready(scope.probe().results())
        failed = change(scope, _told)
    for error in failed.values():
        say(error)
    if failed:
        print(f"not done on {', '.join(failed)}: run it again when they are back", file=sys.stderr)
        raise typer.Exit(ExitCode.HOST)


def _told(event: Event) -> None:
    if event.status in ("changed", "failed") and event.step != "connect":
        print(f"{event.host}: {event.step}{': ' if event.detail else ''}{event.detail}", file=sys.stderr)
