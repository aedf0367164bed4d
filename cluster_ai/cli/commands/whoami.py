"""`cluster-ai whoami`."""

from __future__ import annotations

import json
import sys

import typer

from cluster_ai.cli.gateway import GatewayUrl, find
from cluster_ai.cli.session import Json

_OFF = 60.0  # seconds


def command(
    ctx: typer.Context,
    json_: Json = False,
    gateway: GatewayUrl = None,
) -> None:
    """Show who the gateway takes you for, and what you may."""
    client = find(ctx.obj, gateway)
    told = client.ask("GET", "/api/v1/whoami")
    if json_:
        print(json.dumps(told, indent=2))
    else:
        models = "" if told["models"] is None else f"\nmodels: {', '.join(told['models']) or 'none'}"
        print(f"{told['name']}, role {told['role']}, at {client.url}{models}\nmay: {', '.join(told['may'])}")
    if abs(client.clock_ahead) > _OFF:
        ahead = client.clock_ahead
        print(
            f"This machine's clock is {abs(ahead) / 60:.0f} min {'behind' if ahead > 0 else 'ahead of'} the gateway's:"
            " tokens and certificates will be refused. `timedatectl` on both shows which one is wrong.",
            file=sys.stderr,
        )
