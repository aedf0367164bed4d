"""`cluster-ai cordon`."""

from __future__ import annotations

import json

import typer

from cluster_ai.cli.draining import Reason, Workers, as_json, told
from cluster_ai.cli.session import AskPassword, Json


def command(
    ctx: typer.Context,
    hosts: Workers,
    reason: Reason = "",
    json_: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Give workers nothing new, neither requests nor Dask tasks, until undrain. What they have, they finish.

    Exit code 0: done. 5: the gateway doesn't answer. 65: there is no such worker.
    """
    seen = told(ctx.obj, hosts, ask_sudo_password).post("cordon", reason)
    if json_:
        print(json.dumps(as_json(seen), indent=2))
        return
    for name, it in seen.items():
        print(f"{name}: {it.reason or it.state}")
