"""`cluster-ai bench`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster_ai.cli.gateway import GatewayUrl, chosen, find
from cluster_ai.cli.session import AskPassword, Json, sudo_password
from cluster_ai.cli.tables import table
from cluster_ai.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from cluster_ai.bench.results import Result
    from cluster_ai.cli.main import Invocation
    from cluster_ai.config.model import Config

_ALONE = (
    "Placement compares workers by a model that was measured on several: a small one with `replicas: all` makes it so."
)


def command(
    ctx: typer.Context,
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Which; by default all.")] = None,
    workers: Annotated[
        list[str] | None, typer.Option("--worker", metavar="WORKER", help="Only there; the option again for several.")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=8, help="How many to generate each time.")] = 128,
    save: Annotated[
        bool,
        typer.Option("--save", help="Write the speeds into cluster.yaml, where placement compares workers by them."),
    ] = False,
    json_: Json = False,
    gateway: GatewayUrl = None,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Measure models on each worker that has them: tokens per second, first token, memory, time to load.

    Each is unloaded and loaded anew, and then asked three times, through the gateway and on the worker itself. Results
    are kept beside cluster.yaml in .cluster-ai/bench.jsonl. Best when nobody else asks for anything. With --save, the
    speeds of cluster.yaml's workers are written there too, but those that are within 20 % of what it says.

    Exit code 2: a model is more than 15 % slower than when it was last measured there. 3: a worker can't be
    reached by SSH. 5: the gateway, or a worker through it, doesn't answer. 64: no worker has
    such a model, or there is no such worker.
    """
    from cluster_ai.bench import history, results
    from cluster_ai.bench.measure import Bench

    client = find(ctx.obj, gateway)
    there = {it["name"]: it for it in client.ask("GET", "/api/v1/cluster/workers")["workers"]}
    wanted = _pairs(client.ask("GET", "/api/v1/models")["models"], there, models or [], workers or [])
    direct = _directly(ctx.obj, gateway, sudo_password(ask_sudo_password))
    path = ctx.obj.config_path.resolve().parent / ".cluster-ai" / "bench.jsonl"
    earlier = history.kept(path, results.Result)
    bench = Bench(client.ask, client.stream, tokens)
    found = []
    for model, worker in wanted:
        print(f"measuring {model} on {worker}", file=sys.stderr)
        found.append(bench.measure(model, worker, str(there[worker]["engine_version"] or ""), direct(worker)))
        history.keep(path, found[-1:])
    slower = [text for it in found if (text := results.slower(it, earlier))]
    if json_:
        print(json.dumps({"format": 1, "results": [asdict(it) for it in found], "slower": slower}, indent=2))
    else:
        names = dict.fromkeys(it.model for it in found)
        references = [row for name in names if (row := results.reference(name))]
        table("Median of three answers each", [*(results.row(it, earlier) for it in found), *references])
        for text in slower:
            print(text)
    if save:
        print(_saved(ctx.obj.config(), found), file=sys.stderr)
    if slower:
        raise typer.Exit(ExitCode.CHANGES)


def _saved(config: Config, results: list[Result]) -> str:
    """Write the speeds; returns what to say of it. Raises ConfigError, PlacementError: nothing is written."""
    from cluster_ai.bench import saving
    from cluster_ai.config.load import read_text
    from cluster_ai.config.save import write
    from cluster_ai.placement.check import check

    if not {it.worker for it in results} & {it.name for it in config.workers}:
        return f"{config.path} names none of these workers: nothing is saved"
    found = saving.speeds(config, results)
    alone = "" if saving.comparable(config, found) else f"\n{_ALONE}"
    if not found:
        return f"{config.path} says so already, within 20 %{alone}"
    text = saving.written(read_text(config.path), config, found)
    check(text, config.path)
    backup = write(config.path, text)
    told = f"{config.path} has the speed of {', '.join(found)}; what it was is in {backup.name}."
    return f"{told} See whether a model moves by that: cluster-ai plan{alone}"


def _pairs(
    known: list[dict[str, Any]], there: dict[str, Any], models: list[str], workers: list[str]
) -> list[tuple[str, str]]:
    """Model and worker. Raises UsageError."""
    have = {it["name"]: it["present"] for it in known}
    wanted = chosen(models, have)
    for name in workers:
        if name not in there:
            raise UsageError(f"there is no worker {name!r}", remedy=f"there are: {', '.join(there)}")
    found = [(model, it) for model in wanted for it in have[model] if not workers or it in workers]
    if not found:
        raise UsageError("no worker that answers has such a model", remedy="cluster-ai status shows who has what")
    return found


def _directly(
    invocation: Invocation, gateway: str | None, password: str | None
) -> Callable[[str], Callable[[str], float | None]]:
    """Worker -> what asks its engine there; nothing does for the cluster of this machine, or for another's."""
    from cluster_ai.local import state
    from cluster_ai.local.model import Paths

    folder = invocation.config_path.resolve().parent / ".cluster-ai"
    if gateway is not None or state.read(Paths(folder)) is not None:
        return lambda _: lambda _: None
    from cluster_ai.bench.measure import directly
    from cluster_ai.config.model import hosts
    from cluster_ai.rollout.scope import Scope

    scope = Scope(invocation.config(), (), password)
    of_worker = {it.worker.name: it.name for it in hosts(scope.config) if it.worker}
    argv = scope.argv()

    def of(worker: str) -> Callable[[str], float | None]:
        host = of_worker.get(worker)  # one that registered at run time isn't ours to log in to
        return (lambda _: None) if host is None else directly(host, argv[host], password)

    return of
