"""`cluster-ai keys`: who may use the cluster, beside those with its own token."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cluster_ai.cli.gateway import GatewayUrl, find
from cluster_ai.cli.session import Json
from cluster_ai.cli.tables import show_list

app = typer.Typer(no_args_is_help=True)

PATH = "/api/v1/keys"
Name = Annotated[str, typer.Argument(help="Whose key it is; stands in logs and usage.")]


@app.command()
def create(
    ctx: typer.Context,
    name: Name,
    priority: Annotated[
        int, typer.Option("--priority", min=-10, max=10, help="Of requests that wait, a higher one goes first.")
    ] = 0,
    requests_per_minute: Annotated[
        int | None, typer.Option("--requests-per-minute", min=0, help="In place of the cluster's limit; 0: none.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option("--tokens-per-minute", min=0, help="Of prompts and answers; 0: no limit.")
    ] = None,
    max_concurrent: Annotated[
        int | None, typer.Option("--max-concurrent", min=0, help="Requests that run or wait at once; 0: no limit.")
    ] = None,
    role: Annotated[
        str,
        typer.Option(
            "--role", help="viewer, user, operator, admin or service; `cluster-ai roles` shows what each may."
        ),
    ] = "user",
    model: Annotated[
        list[str] | None, typer.Option("--model", help="The only one it may use; several: the option again.")
    ] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, help="How long it is good.")] = None,
    json_: Json = False,
    gateway: GatewayUrl = None,
) -> None:
    """Make a key and print it: this once, since the gateway keeps nothing that it could be found from."""
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "max_concurrent": max_concurrent,
    }
    body = {"name": name, "priority": priority, "role": role, "limits": limits, "models": model, "days": days}
    made = find(ctx.obj, gateway).ask("POST", PATH, body)
    if json_:
        print(json.dumps(made, indent=2))
        return
    print(made["key"])
    print(f"This is shown once. `cluster-ai keys revoke {name}` ends it.", file=sys.stderr)


@app.command("list")
def list_(ctx: typer.Context, json_: Json = False, gateway: GatewayUrl = None) -> None:
    """Show whose keys there are, and their limits; not the keys."""
    keys = find(ctx.obj, gateway).ask("GET", PATH)["keys"]
    show_list("Keys", keys, row, "There are no keys.", json_)


@app.command()
def revoke(ctx: typer.Context, name: Name, gateway: GatewayUrl = None) -> None:
    """End a key: from now on it is refused."""
    find(ctx.obj, gateway).ask("DELETE", f"{PATH}/{quote(name, safe='')}")


def row(key: dict[str, Any]) -> dict[str, str]:
    """A key in words, for people."""

    def limit(name: str) -> str:
        value = key["limits"][name]
        return "the cluster's" if value is None else str(value or "none")

    return {
        "name": key["name"],
        "priority": str(key["priority"]),
        "role": key["role"],
        "requests/min": limit("requests_per_minute"),
        "tokens/min": limit("tokens_per_minute"),
        "at once": limit("max_concurrent"),
        "models": ", ".join(key["models"]) if key["models"] is not None else "all",
        "created": key["created"],
        "ends": key["ends"] or "never",
    }
