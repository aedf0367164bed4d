"""`cluster-ai models`: what the cluster serves, where each model is, and why there."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cluster_ai.cli.gateway import GatewayUrl, find
from cluster_ai.cli.session import Json
from cluster_ai.cli.tables import show_list, table
from cluster_ai.sizes import format_size

app = typer.Typer(no_args_is_help=True)

PATH = "/api/v1/models"
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Name and tag, such as llama3.2:3b.")]


@app.command("list")
def list_(ctx: typer.Context, json_: Json = False, gateway: GatewayUrl = None) -> None:
    """Show every model: what it is, and on which workers it is in memory, on disk, or missing.

    Exit code 0; 5: the gateway doesn't answer, or refuses.
    """
    models = find(ctx.obj, gateway).ask("GET", PATH)["models"]
    nothing = "The cluster has no models: name some in cluster.yaml, or pull one through the gateway."
    show_list("Models", models, _row, nothing, json_)


@app.command()
def show(ctx: typer.Context, model: ModelName, json_: Json = False, gateway: GatewayUrl = None) -> None:
    """Show one model: its metadata, and how it is on each worker that has it or should.

    Exit code 0; 5: the gateway doesn't answer, or refuses; 64: there is no such model.
    """
    found = find(ctx.obj, gateway).ask("GET", f"{PATH}/{quote(model)}")
    if json_:
        print(json.dumps(found, indent=2))
        return
    for name, value in _facts(found).items():
        print(f"{name + ':':15}{value}")
    table("Workers", [{"worker": c["worker"], "state": c["state"], "why": c["reason"] or ""} for c in found["workers"]])


@app.command()
def explain(ctx: typer.Context, model: ModelName, json_: Json = False, gateway: GatewayUrl = None) -> None:
    """Show which workers hold a model, and why those: memory, speed, what else they have.

    Exit code 0; 5: the gateway doesn't answer, or refuses; 64: there is no such model.
    """
    found = find(ctx.obj, gateway).ask("GET", f"{PATH}/{quote(model)}/explain")
    if json_:
        print(json.dumps(found, indent=2))
        return
    replicas = "one on every worker where it fits" if found["replicas"] is None else str(found["replicas"])
    print(f"{found['name']} takes {_needed(found['memory'])}.\nReplicas wanted: {replicas}.\n")
    table("Workers", [_reason(worker) for worker in found["workers"]])


@app.command()
def scaling(ctx: typer.Context, json_: Json = False, gateway: GatewayUrl = None) -> None:
    """Show what the autoscaler decided, and why: the latest 500, the newest first.

    Exit code 0; 5: the gateway doesn't answer, or refuses.
    """
    decisions = find(ctx.obj, gateway).ask("GET", "/api/v1/cluster/scaling")["decisions"]
    nothing = "Nothing was decided yet. docs/scaling.md tells what is scaled."
    show_list("Decisions", decisions, _decision, nothing, json_)


def _decision(it: dict[str, Any]) -> dict[str, str]:
    return {
        "at": it["at"],
        "what": f"{it['kind']} of {it['name']}",
        "change": f"{it['before']} -> {it['after']}" + (" (dry run)" if it["dry_run"] else ""),
        "why": it["reason"],
    }


def _row(model: dict[str, Any]) -> dict[str, str]:
    return {
        "model": model["name"],
        "family": model["family"] or "",
        "size": _size(model["size"]),
        "quantization": model["quantization"] or "",
        "context": str(model["context"] or ""),
        **{state: ", ".join(_at(model, state)) for state in ("loaded", "loading", "present", "missing")},
    }


def _at(model: dict[str, Any], state: str) -> list[str]:
    return [copy["worker"] for copy in model["workers"] if copy["state"] == state]


def _facts(model: dict[str, Any]) -> dict[str, str]:
    limit = f" (made for {model['context_limit']})" if model["context_limit"] else ""
    said = {
        "model": model["name"],
        "family": model["family"],
        "parameters": model["parameter_size"],
        "quantization": model["quantization"],
        "size": _size(model["size"]),
        "in memory": _size(model["memory"]),
        "context": f"{model['context']} tokens{limit}" if model["context"] else None,
        "license": model["license"],
        "source": "Ollama's registry" if model["source"] == "registry" else model["source"],
        "digest": model["digest"],
    }
    return {name: value for name, value in said.items() if value}


def _needed(memory: dict[str, Any]) -> str:
    parts = [
        f"{format_size(memory[part])} {words}"
        for part, words in (("weights", "weights"), ("cache", "context's cache"))
        if memory[part]
    ]
    of = f", of that {' and '.join(parts)}" if parts else ""
    return f"{format_size(memory['total'])} on each worker{of} ({memory['why']})"


def _reason(worker: dict[str, Any]) -> dict[str, str]:
    speed = worker["tokens_per_second"]
    return {
        "worker": worker["worker"],
        "holds it": "yes" if worker["holds"] else "no",
        "state": worker["state"] or "",
        "on": {"gpu": "GPU", "cpu": "CPU", None: ""}[worker["processor"]],
        "free gpu": _free(worker["free_gpu"]),
        "free ram": _free(worker["free_ram"]),
        "tokens/s": f"{speed:.3g}" if speed else "",
        "why": worker["why"],
    }


def _size(size: int | None) -> str:
    return format_size(size) if size else ""


def _free(size: int | None) -> str:
    return "" if size is None else format_size(max(0, size))
