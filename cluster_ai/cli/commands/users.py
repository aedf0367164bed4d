"""`cluster-ai users`: who logs in with a password."""

from __future__ import annotations

import getpass
import secrets
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cluster_ai.cli.gateway import GatewayUrl, find
from cluster_ai.cli.session import Json
from cluster_ai.cli.tables import show_list

app = typer.Typer(no_args_is_help=True)

PATH = "/api/v1/users"
Name = Annotated[str, typer.Argument(help="Stands in logs and usage.")]
Role = Annotated[str, typer.Argument(help="viewer, user, operator or admin; `cluster-ai roles` shows what each may.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, not from the terminal.")
]


@app.command()
def add(
    ctx: typer.Context,
    name: Name,
    role: Annotated[str, typer.Option("--role", help="viewer, user, operator or admin.")] = "user",
    model: Annotated[
        list[str] | None, typer.Option("--model", help="The only one they may use; several: the option again.")
    ] = None,
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
    password_stdin: FromStdin = False,
    gateway: GatewayUrl = None,
) -> None:
    """Make a user. Without a terminal and --password-stdin a password is made, and printed this once."""
    password, made = _password(name, password_stdin)
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "max_concurrent": max_concurrent,
    }
    body = {"name": name, "password": password, "role": role, "priority": priority, "limits": limits, "models": model}
    find(ctx.obj, gateway).ask("POST", PATH, body)
    _tell(name, password, made)


@app.command("list")
def list_(ctx: typer.Context, json_: Json = False, gateway: GatewayUrl = None) -> None:
    """Show the users, their roles, and how often each is logged in."""
    users = find(ctx.obj, gateway).ask("GET", PATH)["users"]
    show_list("Users", users, row, "There are no users: `cluster-ai users add NAME` makes one.", json_)


@app.command()
def remove(ctx: typer.Context, name: Name, gateway: GatewayUrl = None) -> None:
    """Remove a user: their logins end at once. A key of the same name stays: `cluster-ai keys revoke`."""
    find(ctx.obj, gateway).ask("DELETE", _at(name))


@app.command()
def role(ctx: typer.Context, name: Name, role: Role, gateway: GatewayUrl = None) -> None:
    """Give a user another role, which counts from their next request on."""
    find(ctx.obj, gateway).ask("PATCH", _at(name), {"role": role})


@app.command()
def models(
    ctx: typer.Context,
    name: Name,
    model: Annotated[list[str] | None, typer.Argument(help="The only ones they may use; none named: all.")] = None,
    gateway: GatewayUrl = None,
) -> None:
    """Say which models a user may use."""
    find(ctx.obj, gateway).ask("PATCH", _at(name), {"models": model or None})


@app.command()
def passwd(ctx: typer.Context, name: Name, password_stdin: FromStdin = False, gateway: GatewayUrl = None) -> None:
    """Give a user another password: all their logins end."""
    password, made = _password(name, password_stdin)
    find(ctx.obj, gateway).ask("PATCH", _at(name), {"password": password})
    _tell(name, password, made)


@app.command()
def logout(ctx: typer.Context, name: Name, gateway: GatewayUrl = None) -> None:
    """End all logins of a user; with their password they can log in anew."""
    find(ctx.obj, gateway).ask("DELETE", f"{_at(name)}/logins")


def row(user: dict[str, Any]) -> dict[str, str]:
    """A user in words, for people."""
    return {
        "name": user["name"],
        "role": user["role"],
        "models": ", ".join(user["models"]) if user["models"] is not None else "all",
        "logins": str(user["logins"]),
        "created": user["created"],
    }


def _at(name: str) -> str:
    return f"{PATH}/{quote(name, safe='')}"


def _password(name: str, from_stdin: bool) -> tuple[str, bool]:
    """The password, and whether it was made here."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n"), False
    if not sys.stdin.isatty():
        return secrets.token_urlsafe(15), True
    first = getpass.getpass(f"Password for {name} (empty: one is made): ")
    if not first:
        return secrets.token_urlsafe(15), True
    if getpass.getpass("Once more: ") != first:
        raise typer.BadParameter("the two passwords differ")
    return first, False


def _tell(name: str, password: str, made: bool) -> None:
    if made:
        print(password)
        print(f"The password of {name}, shown once; `cluster-ai login {name}` asks for it.", file=sys.stderr)
