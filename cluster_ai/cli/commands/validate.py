"""`cluster-ai validate`"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cluster_ai.config.load import read_text
from cluster_ai.errors import ClusterAIError, ErrorGroup, ExitCode
from cluster_ai.placement.check import check
from cluster_ai.sizes import counted, format_size


def command(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check cluster.yaml: every key, what belongs together, the files that it names, and that every model fits.

    All mistakes are told at once, each with its line and what is allowed.
    """
    path = ctx.obj.config_path
    try:
        config, placement = check(read_text(path), path)
    except ClusterAIError as error:
        if not as_json:
            raise
        errors = error.errors if isinstance(error, ErrorGroup) else (error,)
        print(json.dumps({"valid": False, "errors": [_as_data(e) for e in errors]}, indent=2))
        raise typer.Exit(ExitCode.CONFIG) from None
    if as_json:
        print(
            json.dumps({"valid": True, "errors": [], "placement": [asdict(a) for a in placement.assignments]}, indent=2)
        )
        return
    print(f"{path} is valid: {counted(len(config.workers), 'worker')}, {counted(len(config.models), 'model')}.")
    for assignment in placement.assignments:
        on = "GPU" if assignment.processor == "gpu" else "CPU"
        print(f"  {assignment.model} -> {assignment.worker}, {on}, {format_size(assignment.memory)}")


def _as_data(error: ClusterAIError) -> dict[str, Any]:
    file, line, column = (
        [*error.where.rsplit(":", 2), "", ""][:3] if error.where.count(":") >= 2 else (error.where, "", "")
    )
    position = {"line": int(line), "column": int(column)} if line.isdigit() and column.isdigit() else {}
    return {"file": file, **position, "what": error.what, "remedy": error.remedy}
