"""`cluster-ai undrain`."""

from __future__ import annotations

import json

import typer

from cluster_ai.cli.draining import Workers, as_json, told
from cluster_ai.cli.session import AskPassword, Json


def command(
    ctx: typer.Context,
    hosts: Workers,
    json_: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Give cordoned or drained workers requests and Dask tasks again.

    Exit code 0: done, also where a worker was in rotation all the time. 5: the gateway doesn't answer. 65: there is no
    such worker.
    """
    seen = told(ctx.obj, hosts, ask_sudo_password).post("resume")
    if json_:
        print(json.dumps(as_json(seen), indent=2))
        return
    for name, it in seen.items():
        print(f"{name}: {it.state}{f' ({it.reason})' if it.reason else ''}")
