"""`cluster-ai login`."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from cluster_ai.addresses import is_loopback
from cluster_ai.cli import logins
from cluster_ai.cli.gateway import Client, GatewayUrl, find


def command(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Argument(help="By default the name that this shell runs as.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input, not from the terminal.")
    ] = False,
    oidc: Annotated[
        bool, typer.Option("--oidc", help="By the OpenID provider that the cluster names, in your browser.")
    ] = False,
    paste: Annotated[
        bool,
        typer.Option("--paste", help="With --oidc, where no browser runs on this machine: it asks for an address."),
    ] = False,
    gateway: GatewayUrl = None,
) -> None:
    """Log in at the gateway: every command that asks it does so in your name from now on.

    What is kept is no password but a token, in your own state folder (~/.local/state/cluster-ai), until `cluster-ai
    logout` or two weeks without use. $CLUSTER_AI_TOKEN goes before it, where it is set.
    """
    client = find(ctx.obj, gateway, own=False)
    name = user or getpass.getuser()
    if urlsplit(client.url).scheme == "http" and not is_loopback(urlsplit(client.url).hostname or ""):
        print(f"{client.url} is not encrypted: whoever listens on the way reads the password.", file=sys.stderr)
    if oidc or paste:
        from cluster_ai.cli.oidc import id_token

        provider = client.ask("GET", "/api/v1/login/oidc")
        given = id_token(provider["issuer"], provider["client_id"], paste=paste)
        _keep(client, client.ask("POST", "/api/v1/login/oidc", {"id_token": given}))
        return
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    elif sys.stdin.isatty():
        password = getpass.getpass(f"Password of {name} at {client.url}: ")
    else:
        raise typer.BadParameter("there is no terminal to ask on: give it with --password-stdin")
    said = client.ask("POST", "/api/v1/login", {"user": name, "password": password})
    _keep(client, said)


def _keep(client: Client, said: dict[str, Any]) -> None:
    logins.keep(client.url, logins.login_of(said))
    print(f"Logged in at {client.url} as {said['user']}, role {said['role']}.")
