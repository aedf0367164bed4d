"""`cluster-ai tasks`: work that waits for a worker with room."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from cluster_ai.cli.gateway import Client, GatewayUrl, find
from cluster_ai.cli.session import Json
from cluster_ai.cli.tables import show_list
from cluster_ai.errors import ConfigError, RolloutError
from cluster_ai.landing import Landing
from cluster_ai.sizes import counted

app = typer.Typer(no_args_is_help=True)

PATH = "/api/v1/tasks"
POLL = 0.5  # seconds
ENDED = ("done", "failed", "cancelled")
TaskId = Annotated[str, typer.Argument(metavar="TASK", help="As `submit` printed it.")]


@app.command()
def submit(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A task, or a list of them, as JSON; - for standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until they have ended.")] = False,
    gateway: GatewayUrl = None,
) -> None:
    """Submit tasks and print their names. Once they are printed, they can't be lost any more.

    Exit code 0: acknowledged; with --wait, done. 4: with --wait, one of them failed. 64: a task can't be as it is, so
    none of them was taken.
    """
    asked = read(file)
    there = find(ctx.obj, gateway)
    ids = there.ask("POST", f"{PATH}/bulk", {"tasks": asked})["ids"]
    for it in ids:
        print(it, flush=True)
    if not wait:
        return
    tasks = awaited(there, ids)
    failed = [it["id"] for it in tasks if it["state"] != "done"]
    if failed:
        remedy = f"cluster-ai tasks show {failed[0]}"
        raise RolloutError(
            f"{len(failed)} of {counted(len(ids), 'task')} didn't come to a result", where="tasks", remedy=remedy
        )


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option("--state", help="queued, sent, done, failed or cancelled.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only those with this tag.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many at most.")] = 30,
    json_: Json = False,
    gateway: GatewayUrl = None,
) -> None:
    """Show tasks, the newest first."""
    wanted = {name: value for name, value in (("state", state), ("tag", tag), ("limit", limit)) if value is not None}
    tasks = find(ctx.obj, gateway).ask("GET", f"{PATH}?{urlencode(wanted)}")["tasks"]
    show_list("Tasks", tasks, row, "There are no such tasks.", json_)


@app.command()
def show(ctx: typer.Context, task: TaskId, gateway: GatewayUrl = None) -> None:
    """Show a task, as JSON."""
    print(json.dumps(find(ctx.obj, gateway).ask("GET", f"{PATH}/{quote(task, safe='')}"), indent=2))


@app.command()
def result(
    ctx: typer.Context,
    task: TaskId,
    out: Annotated[Path | None, typer.Option("--out", help="Into this file, rather than to standard output.")] = None,
    gateway: GatewayUrl = None,
) -> None:
    """Print what came out of a task: JSON, or what is in the file of a large result.

    With --out a large one appears whole, its digest checked, or not at all; one that broke off is gone on with by the
    same command. Exit code 5: it broke off, or isn't what its digest says.
    """
    there = find(ctx.obj, gateway)
    said = there.ask("GET", f"{PATH}/{quote(task, safe='')}/result")
    try:
        if said["file"] is not None:
            there.download(said["file"], sys.stdout.buffer if out is None else out)
            return
        text = json.dumps(said["result"], indent=2) + "\n"
        if out is None:
            sys.stdout.write(text)
        else:
            put(text.encode(), out)
    except OSError as e:
        raise ConfigError(f"can't be written: {e.strerror}", where=str(out or "standard output")) from e


@app.command()
def cancel(ctx: typer.Context, task: TaskId, gateway: GatewayUrl = None) -> None:
    """Cancel a task; what runs is stopped. One that has ended stays as it is."""
    print(find(ctx.obj, gateway).ask("POST", f"{PATH}/{quote(task, safe='')}/cancel")["state"])


def put(text: bytes, out: Path) -> None:
    """Whole or not at all. Raises OSError."""
    with Landing(hashlib.sha256(text).hexdigest(), len(text), out) as landing:
        landing.begin(partial=False)
        landing.write(text)
        landing.finish()


def awaited(there: Client, ids: list[str]) -> list[dict[str, Any]]:
    """All of them, ended. Meanwhile people see how far they are."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    tasks = dict[str, dict[str, Any]]()
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        shown = bar.add_task("", total=len(ids))
        while len(tasks) < len(ids) or not all(it["state"] in ENDED for it in tasks.values()):
            time.sleep(POLL)
            for it in ids:
                if it not in tasks or tasks[it]["state"] not in ENDED:
                    tasks[it] = there.ask("GET", f"{PATH}/{it}")
            ended = sum(it["state"] in ENDED for it in tasks.values())
            texts = [text for it in tasks.values() if (text := progress(it))]
            bar.update(shown, completed=ended, description=texts[0] if texts else "")
    return [tasks[it] for it in ids]


def read(file: Path) -> list[Any]:
    """Raises ConfigError for a file that holds neither a task nor a list of them."""
    where = "standard input" if str(file) == "-" else str(file)
    try:
        said = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text())
    except OSError as e:
        raise ConfigError(f"can't be read: {e.strerror}", where=where) from e
    except ValueError as e:
        raise ConfigError(f"is no JSON: {e}", where=where) from e
    tasks = said if isinstance(said, list) else [said]
    if not tasks or not all(isinstance(task, dict) for task in tasks):
        remedy = '{"kind": "ai_inference", "payload": {"model": "smollm2", "prompt": "Hi"}} is one'
        raise ConfigError("holds neither a task nor a list of tasks", where=where, remedy=remedy)
    return tasks


def row(task: dict[str, Any]) -> dict[str, str]:
    """A task in words, for people."""
    return {
        "task": task["id"],
        "kind": task["kind"],
        "state": task["state"],
        "progress": progress(task),
        "worker": task["worker"] or "",
        "submitted": task["submitted"],
        "user": task["user"],
        "tags": ", ".join(task["tags"]),
        "error": task["error"] or "",
    }


def progress(task: dict[str, Any]) -> str:
    """Of a task that runs and says how far it is."""
    if task["progress"] is None or task["state"] in ENDED:
        return ""
    return f"{task['progress']:.0%} {task['progress_text'] or ''}".rstrip()
