"""`cluster-ai usage`."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from cluster_ai.cli.gateway import GatewayUrl, find
from cluster_ai.cli.session import Json
from cluster_ai.cli.tables import table

PATH = "/api/v1/usage"
_BY = ("day", "user", "model")


def command(
    ctx: typer.Context,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="The first day, as 2026-11-01; 30 days ago.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="The last day; today.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only this user's.")] = None,
    by: Annotated[str, typer.Option("--by", help="What to keep apart: day, user, model, several with commas.")] = (
        "user,model"
    ),
    json_: Json = False,
    gateway: GatewayUrl = None,
) -> None:
    """Show what users used: requests, tokens, and seconds in which they held a slot of a model. Days are of UTC."""
    kept = [name.strip() for name in by.split(",") if name.strip()]
    unknown = sorted(set(kept) - set(_BY))
    if unknown or not kept:
        raise typer.BadParameter(f"is of {', '.join(_BY)}, not {', '.join(unknown) or 'nothing'}", param_hint="--by")
    asked = [("by", name) for name in kept]
    asked += [(name, value) for name, value in (("first", first), ("last", last), ("user", user)) if value]
    told = find(ctx.obj, gateway).ask("GET", f"{PATH}?{urlencode(asked)}")
    if json_:
        print(json.dumps(told, indent=2))
        return
    if not told["lines"]:
        print(f"Nobody used anything from {told['first']} to {told['last']}.")
        return
    names = [name for name in _BY if name in kept]
    rows = [row(line, names) for line in told["lines"]]
    nothing = dict.fromkeys(names, "")
    table(f"{told['first']} to {told['last']}", [*rows, row({**nothing, names[0]: "all", **told["total"]}, names)])


def row(line: dict[str, Any], names: list[str]) -> dict[str, str]:
    """A line of the answer in words, for people."""
    return {
        **{name: str(line[name]) for name in names},
        "requests": str(line["requests"]),
        "tokens in": str(line["prompt_tokens"]),
        "tokens out": str(line["completion_tokens"]),
        "seconds": f"{line['seconds']:.1f}",
    }
