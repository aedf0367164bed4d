"""`cluster-ai audit`: who did what, and whether the log of it is as it was written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster_ai.audit.chain import Head, Verdict, parsed, verify
from cluster_ai.audit.file import AuditFile, fields_of
from cluster_ai.cli.auditing import folder_of
from cluster_ai.cli.gateway import Client, GatewayUrl, find
from cluster_ai.cli.session import Json
from cluster_ai.cli.tables import table
from cluster_ai.errors import ConfigError, ExitCode
from cluster_ai.sizes import counted

app = typer.Typer(no_args_is_help=True)

PATH = "/api/v1/audit"
_PAGE = 5000
_HEADS = "heads.json"  # of gateways' logs, as they were when they were last verified here
Here = Annotated[bool, typer.Option("--here", help="What was done by commands from here, beside cluster.yaml.")]


@app.command()
def show(
    ctx: typer.Context,
    last: Annotated[int, typer.Option("--last", min=1, max=10_000, help="How many lines.")] = 50,
    here: Here = False,
    json_: Json = False,
    gateway: GatewayUrl = None,
) -> None:
    """Show the last lines of the gateway's audit log, or of this machine's."""
    if here:
        file = AuditFile(folder_of(ctx.obj.config_path))
        lines = list(file.lines())[-last:]
        problem = file.verify().problem
    else:
        told = find(ctx.obj, gateway).ask("GET", f"{PATH}?last=true&limit={last}")
        lines, problem = [text.encode() for text in told["lines"]], told["problem"]
    if json_:
        for text in lines:
            print(text.decode(errors="replace"))
    elif lines:
        table("Audit log", [row(fields_of(text)) for text in lines])
    else:
        print("Nothing was done yet.")
    if problem:
        print(f"This log is not as it was written: {problem}", file=sys.stderr)


@app.command("verify")
def verify_(ctx: typer.Context, here: Here = False, json_: Json = False, gateway: GatewayUrl = None) -> None:
    """Check every line of the gateway's log, or of this machine's. Exit code 2: it isn't as it was written.

    What the gateway's log ended with is remembered here, so that the next check also finds one that was written anew.
    """
    if here:
        folder = folder_of(ctx.obj.config_path)
        what, found = str(folder), AuditFile(folder).verify()
    else:
        client = find(ctx.obj, gateway)
        heads = _Heads(folder_of(ctx.obj.config_path) / _HEADS)
        what, found = client.url, _whole(client, heads.known(client.url))
        if found.good:
            heads.keep(client.url, found.head)
    if json_:
        told = {"lines": found.lines, "first": found.first, "head": found.head.seq, "hash": found.head.hash}
        print(json.dumps({**told, "good": found.good, "problem": found.problem}, indent=2))
    elif found.good:
        begin = f", from line {found.first}: what is older was rotated away" if (found.first or 1) > 1 else ""
        print(f"{what}: {counted(found.lines, 'line')}, unchanged{begin}. The last: {found.head.hash}")
    else:
        print(f"{what}: {found.problem}")
    if not found.good:
        raise typer.Exit(ExitCode.CHANGES)


def _whole(client: Client, known: Head | None) -> Verdict:
    """All lines are fetched and checked here: the gateway's own word about its log isn't enough."""
    told: dict[str, Any] = {}

    def lines() -> Iterator[bytes]:
        after = 0
        while True:
            told.update(client.ask("GET", f"{PATH}?after={after}&limit={_PAGE}"))
            texts = [text.encode() for text in told["lines"]]
            yield from texts
            numbers = [fields["seq"] for text in texts if (fields := parsed(text)) is not None]
            if not numbers or max(numbers) <= after:
                return
            after = max(numbers)

    found = verify(lines(), known)
    return Verdict(found.lines, found.first, found.head, found.problem or told["problem"])


class _Heads:
    def __init__(self, path: Path) -> None:
        self._path = path

    def known(self, url: str) -> Head | None:
        found = self._read().get(url)
        return Head(int(found[0]), str(found[1])) if found is not None else None

    def keep(self, url: str, head: Head) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_name(f"{_HEADS}.new")
        new.write_text(json.dumps({**self._read(), url: [head.seq, head.hash]}))
        new.replace(self._path)

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            remedy = f"rm {self._path} forgets what logs ended with"
            raise ConfigError(f"can't be read: {error}", where=str(self._path), remedy=remedy) from error


def row(fields: dict[str, Any]) -> dict[str, str]:
    """A line for people."""
    names = ("at", "who", "what", "on", "address", "result", "note")
    return {name: str(fields.get(name, "")) for name in names}
