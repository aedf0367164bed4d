"""`cluster-ai join-token`: one line to run on a bare machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cluster_ai.cli.session import Json
from cluster_ai.errors import ConfigError

app = typer.Typer(no_args_is_help=True)


@app.command()
def create(
    ctx: typer.Context,
    lifetime: Annotated[str, typer.Option("--lifetime", help="How long it may be used.")] = "1h",
    script: Annotated[
        Path | None,
        typer.Option("--script", metavar="FILE", help="Write the script there, and print a short line that runs it."),
    ] = None,
) -> None:
    """Make a token for one machine, and print the line to run on it as root. It needs python3 and an SSH server.

    The machine then announces itself on its network, and waits. Accept it here: cluster-ai discover --add
    """
    from cluster_ai.config.units import parse_duration
    from cluster_ai.discovery.tokens import Tokens, cluster_id, line
    from cluster_ai.discovery.tokens import script as source

    config = ctx.obj.config()
    try:
        seconds = parse_duration(lifetime)
    except ValueError:
        raise typer.BadParameter("--lifetime: write a duration such as 30m or 2h") from None
    token = Tokens(config.path.resolve().parent).create(cluster_id(config), seconds)
    if script is None:
        print(line(token.text))
        return
    try:
        script.write_text(source())
    except OSError as error:
        raise ConfigError(f"can't be written: {error.strerror}", where=str(script)) from error
    print(f"python3 {script.name} {token.text}")


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the tokens, without their secrets."""
    from cluster_ai.discovery.tokens import Tokens

    now = time.time()
    found = Tokens(ctx.obj.config().path.resolve().parent).all()
    if as_json:
        import json

        rows = [
            {"id": it.id, "state": it.state(now), "created": it.created, "expires": it.expires, "used_by": it.used_by}
            for it in found
        ]
        print(json.dumps(rows, indent=2))
        return
    for it in found:
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(it.expires))
        print(f"{it.id}  {it.state(now):8} until {until}  {it.used_by}".rstrip())


@app.command()
def revoke(ctx: typer.Context, token: Annotated[str, typer.Argument(help="Its id, or all of it.")]) -> None:
    """Make a token worth nothing."""
    from cluster_ai.discovery.tokens import Tokens

    Tokens(ctx.obj.config().path.resolve().parent).revoke(token)
    print(f"{token.partition('-')[0]} is revoked")
