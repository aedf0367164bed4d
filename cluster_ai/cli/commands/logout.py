"""`cluster-ai logout`."""

from __future__ import annotations

import typer

from cluster_ai.cli import logins
from cluster_ai.cli.gateway import Client, GatewayUrl, find
from cluster_ai.errors import UnavailableError


def command(
    ctx: typer.Context,
    gateway: GatewayUrl = None,
) -> None:
    """End the login: here, and at the gateway, which refuses its token from now on."""
    client = find(ctx.obj, gateway, own=False)
    login = logins.kept(client.url)
    if login is None:
        old = logins.before_tls(client.url)
        logins.forget(client.url)
        print(f"Forgot {old.user}'s login of before TLS." if old else f"Nobody is logged in at {client.url}.")
        return
    try:
        token = client.logged_in()
    finally:
        logins.forget(client.url)
    if token is None:
        print(f"The login of {login.user} had ended already.")
        return
    try:
        Client(client.url, token).ask("POST", "/api/v1/logout")
    except UnavailableError as error:
        raise UnavailableError(
            f"forgotten here, but the gateway wasn't told: {error.what}",
            where=client.url,
            remedy=f"the token ends within 15 minutes; `cluster-ai users logout {login.user}` ends it at once",
        ) from error
    print(f"Logged out {login.user} at {client.url}.")
