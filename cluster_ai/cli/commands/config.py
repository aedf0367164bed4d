"""`cluster-ai config`"""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def show(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the configuration as it is in force: the file, with every default filled in."""
    from cluster_ai.config.load import parse, read_text

    path = ctx.obj.config_path
    _, data, _ = parse(read_text(path), path)
    if as_json:
        print(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        import yaml

        print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120), end="")


@app.command("set")
def set_(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(help="Such as cluster.gateway.port or 'cluster.models[llama2:13b].replicas'.")],
    value: Annotated[str, typer.Argument(help="The new value, as it would stand in the file.")],
) -> None:
    """Change one key. Comments and order stay, and a dated backup is made.

    Nothing is written that `cluster-ai validate` would refuse.
    """
    from cluster_ai.config.save import set_value
    from cluster_ai.placement.check import check

    path = ctx.obj.config_path
    backup = set_value(path, key, value, lambda text: check(text, path))
    if backup is None:
        print(f"{path} says so already.")
    else:
        print(f"{path} is changed; what it was is in {backup.name}. See what that means for the hosts: cluster-ai plan")


@app.command()
def restore(
    ctx: typer.Context,
    backup: Annotated[str, typer.Argument(help="A backup's name; the newest when left out.", show_default=False)] = "",
    only_list: Annotated[bool, typer.Option("--list", help="Only list the backups, the newest first.")] = False,
) -> None:
    """Bring a backup back. What is in its place now becomes a backup itself."""
    from cluster_ai.config import save

    path = ctx.obj.config_path
    if only_list:
        for there in save.backups(path):
            print(there.name)
        return
    restored, backup_of_now = save.restore(path, backup or None)
    print(f"{path} is {restored.name} again; what it was is in {backup_of_now.name}.")


@app.command()
def reference() -> None:
    """Print the reference of cluster.yaml (docs/configuration.md)."""
    from cluster_ai.config.reference import markdown

    print(markdown(), end="")


@app.command()
def schema() -> None:
    """Print the JSON Schema of cluster.yaml (docs/cluster.schema.json), for editors."""
    from cluster_ai.config.reference import json_schema

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
