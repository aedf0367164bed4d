"""`cluster-ai secrets`: what is in secrets.yaml, which Ansible Vault encrypts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_ai.cli.session import Json
from cluster_ai.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from cluster_ai.security.vault import Vault

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Of a secret, such as gateway_token.")]
HEAD = (
    "# Names, and a text each. Saved as it is when you leave the editor; nothing changes where nothing was changed.\n"
)


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the names of the secrets; not what they are."""
    names = sorted(_vault(ctx).read())
    if as_json:
        import json

        print(json.dumps(names))
    else:
        for name in names:
            print(name)


@app.command()
def get(ctx: typer.Context, name: Name) -> None:
    """Print a secret as it is, and nothing else."""
    vault = _vault(ctx)
    value = vault.read().get(name)
    if value is None:
        raise UsageError(f"there is no secret {name!r}", where=str(vault.path), remedy="cluster-ai secrets list")
    print(value, end="" if value.endswith("\n") or not sys.stdout.isatty() else "\n")


@app.command("set")
def set_(ctx: typer.Context, name: Name) -> None:
    """Set a secret to what comes on standard input; on a terminal it is asked for, and not shown.

    It is never an argument: everybody on a machine can read those. `cluster-ai apply` takes it to the hosts.
    """
    from cluster_ai.security.vault import parse

    vault = _vault(ctx)
    if sys.stdin.isatty():
        import getpass

        value = getpass.getpass(f"{name}: ")
        if getpass.getpass("once more: ") != value:
            raise UsageError("these are two different ones: nothing is changed")
    else:
        value = sys.stdin.read().removesuffix("\n")
    import yaml

    state = vault.state()
    parse(yaml.safe_dump({name: value}, allow_unicode=True), str(vault.path))
    vault.write(vault.read() | {name: value}, over=state)


@app.command()
def edit(ctx: typer.Context) -> None:
    """Change secrets in $VISUAL or $EDITOR.

    In clear they are only in a folder in memory that others can't read, and that goes with the editor. What can't be
    right isn't written; you may correct it.
    """
    from cluster_ai.security import editing
    from cluster_ai.security.vault import parse

    vault = _vault(ctx)
    state, found = vault.state(), vault.read()
    text = HEAD + _plain(found)
    with editing.private_folder() as folder:
        while True:
            text = editing.edit(text, vault.path.name, folder, os.environ)
            try:
                new = parse(text, vault.path.name)
                break
            except ConfigError as error:
                print(error, file=sys.stderr)
                if not sys.stdin.isatty() or not typer.confirm("Correct it?", default=True, err=True):
                    raise ConfigError("nothing is changed", where=str(vault.path)) from None
    if new == found:
        print("Nothing is changed.")
        return
    vault.write(new, over=state)
    for word, names in _differences(found, new):
        print(f"{word}: {', '.join(names)}")


@app.command()
def rotate(
    ctx: typer.Context,
    new_password_file: Annotated[
        Path | None,
        typer.Option("--new-password-file", metavar="FILE", help="Where the new password stands; else one is made."),
    ] = None,
) -> None:
    """Encrypt secrets.yaml anew, with another password, which takes the old one's place in its file.

    Where the password comes from a variable or a command, give the new one in a file, and put it there yourself. An
    earlier secrets.yaml, such as in git's history, still opens by the old password: if that one leaked, the secrets
    themselves have to change too.
    """
    from cluster_ai.security.password import read_file

    vault = _vault(ctx)
    vault.rotate(read_file(new_password_file, private=False) if new_password_file else None)
    if vault.source.file:
        print(f"{vault.path} is encrypted with a new password, which is in {vault.source.file}.")
    else:
        print(f"{vault.path} is encrypted with the new password. Put it where {vault.source} has the old one.")


def _vault(ctx: typer.Context) -> Vault:
    from cluster_ai.security.vault import Vault

    return Vault.of(ctx.obj.config())


def _plain(secrets: dict[str, str]) -> str:
    """As a person would write it: texts of several lines as blocks."""
    if not secrets:
        return ""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return yaml.dump(secrets, Dumper=Dumper, default_flow_style=False, allow_unicode=True, width=10**6)


def _differences(old: dict[str, str], new: dict[str, str]) -> list[tuple[str, list[str]]]:
    kinds = {
        "added": [name for name in new if name not in old],
        "changed": [name for name in new if name in old and new[name] != old[name]],
        "removed": [name for name in old if name not in new],
    }
    return [(word, names) for word, names in kinds.items() if names]
