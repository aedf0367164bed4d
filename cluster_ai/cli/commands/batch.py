"""`cluster-ai batch`: a file of prompts, answered by the cluster while nobody waits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cluster_ai.cli.gateway import GatewayUrl, find
from cluster_ai.cli.session import Json
from cluster_ai.cli.tables import show_list
from cluster_ai.errors import ConfigError, RolloutError
from cluster_ai.sizes import counted

app = typer.Typer(no_args_is_help=True)

PATH = "/v1/batches"
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="As `list` shows it.")]


@app.command()
def run(
    ctx: typer.Context,
    prompts: Annotated[Path, typer.Argument(help="JSONL, .csv, .parquet, or a folder of Parquet.")],
    out: Annotated[Path, typer.Option("--out", help="Where the answers go, as JSONL, in the order of the prompts.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Who answers, where a row doesn't name its own model.")
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", help="Of a table: which holds the prompts; else prompt, messages, input.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Of each answer, at most.")] = None,
    gateway: GatewayUrl = None,
) -> None:
    """Answer every prompt of a file, once each.

    A row has `prompt` (a text), `messages` (a conversation) or `input` (a text to embed), and may have `id`; a line of
    JSONL may be just a text, or a line of OpenAI's batches. Rows without an answer are in OUT's errors file
    (answers.errors.jsonl), with the reason.

    Stopped, by whatever: the same command again goes on. The cluster goes on meanwhile.

    Exit code 0: every row is answered. 4: some are not. 5: the gateway doesn't answer. 65: the prompts can't be read.
    """
    from cluster_ai.batch import job as jobs
    from cluster_ai.batch.run import run as lead

    folder = jobs.Folder(out)
    options = {"max_tokens": max_tokens} if max_tokens is not None else {}
    of = jobs.digest(prompts, {"model": model, "column": column, **options})
    there = find(ctx.obj, gateway)
    with folder.held():
        job = folder.job() or jobs.prepare(folder, of, prompts, column, model, options)
        if job.of != of:
            remedy = f"give the command as it was, another --out, or remove {folder.path}"
            raise ConfigError("another batch is under way for these answers", where=str(out), remedy=remedy)
        with _bar() as show:
            done, failed = lead(there, folder, job, show)
    print(f"{counted(done, 'answer')}: {out}")
    if failed:
        where = str(folder.errors)
        first, rows = next(folder.faults()), counted(done + failed, "row")
        raise RolloutError(
            f"no answer for {failed} of {rows}; row {first['row']}: {first['error']['message']}",
            where=where,
            remedy="it says why of each",
        )


@contextmanager
def _bar() -> Iterator[Callable[[int, int, int], None]]:
    """A bar on a terminal; elsewhere a line whenever another tenth is done."""
    if not sys.stderr.isatty():
        told = -1

        def tell(done: int, failed: int, total: int) -> None:
            nonlocal told
            tenth = 10 * (done + failed) // max(total, 1)
            if total and tenth > told:
                told = tenth
                print(f"{done + failed} of {total}, {failed} failed", file=sys.stderr, flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        task = progress.add_task("", total=None, failed="")

        def show(done: int, failed: int, total: int) -> None:
            text = f"{failed} failed" if failed else ""
            progress.update(task, completed=done + failed, total=total, failed=text)

        yield show


@app.command("list")
def list_(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="How many at most.")] = 30,
    json_: Json = False,
    gateway: GatewayUrl = None,
) -> None:
    """Show batches, the newest first."""
    found = find(ctx.obj, gateway).ask("GET", f"{PATH}?limit={limit}")["data"]
    show_list("Batches", found, row, "There are no batches.", json_)


@app.command()
def status(ctx: typer.Context, batch: BatchId, gateway: GatewayUrl = None) -> None:
    """Show a batch, as JSON."""
    print(json.dumps(find(ctx.obj, gateway).ask("GET", f"{PATH}/{quote(batch, safe='')}"), indent=2))


@app.command()
def cancel(ctx: typer.Context, batch: BatchId, gateway: GatewayUrl = None) -> None:
    """Cancel a batch; what is answered already is kept."""
    print(find(ctx.obj, gateway).ask("POST", f"{PATH}/{quote(batch, safe='')}/cancel", {})["status"])


def row(batch: dict[str, Any]) -> dict[str, str]:
    """A batch in words, for people."""
    from datetime import UTC, datetime

    counts = batch["request_counts"]
    return {
        "batch": batch["id"],
        "status": batch["status"],
        "answered": f"{counts['completed']} of {counts['total']}",
        "failed": str(counts["failed"]),
        "endpoint": batch["endpoint"],
        "created": datetime.fromtimestamp(batch["created_at"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
