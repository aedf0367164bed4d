"""`cluster-ai release`: build releases ahead of an apply, and look into those that were built."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_ai.cli.building import building
from cluster_ai.cli.session import AskPassword, Json, look, say
from cluster_ai.errors import ExitCode, HostError
from cluster_ai.sizes import counted

if TYPE_CHECKING:
    from cluster_ai.config import Config

app = typer.Typer(no_args_is_help=True)


@app.command()
def build(
    ctx: typer.Context,
    hosts: Annotated[list[str] | None, typer.Argument(metavar="[HOST]...", help="Only these hosts; all.")] = None,
    as_json: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Build the hosts' releases here, so that an apply only has to bring them there; nothing is changed on the hosts.

    The hosts are asked for their Python and architecture. Exit code 3: a host could not be asked; the others are built.
    """
    session = look(ctx.obj, hosts, ask_sudo_password)
    from cluster_ai.release.build import desired
    from cluster_ai.release.model import HostFacts
    from cluster_ai.release.store import Store
    from cluster_ai.rollout.survey import usable

    answers = [a if isinstance(a, HostError) else usable(a) for a in session.seen.values()]
    facts = {a.host: HostFacts(a.distribution, a.python or "", a.arch) for a in answers if not isinstance(a, HostError)}
    config = session.scope.config
    with building(sys.stderr) as progress:
        releases = desired(config, session.placement, facts, Store.of(config), progress=progress)
    if as_json:
        import json

        told = {
            release.host: {
                "digest": release.digest,
                "parts": {part.name: {"sha256": part.sha256, "size": part.size} for part in release.parts},
                "blobs": {blob.sha256: {"size": blob.size} for blob in release.blobs},
            }
            for release in releases.values()
        }
        print(json.dumps(told, indent=2))
    else:
        from cluster_ai.sizes import format_size

        for release in releases.values():
            sizes = ", ".join(f"{part.name} {format_size(part.size)}" for part in release.parts)
            print(f"{release.host}  {release.digest}  {sizes}")
    errors = [answer for answer in answers if isinstance(answer, HostError)]
    for error in errors:
        say(error)
    if errors:
        raise typer.Exit(ExitCode.HOST)


@app.command()
def sbom(
    ctx: typer.Context,
    of: Annotated[str, typer.Argument(metavar="HOST|DIGEST", help="A host, or a digest, or how one begins.")],
    debian: Annotated[
        bool, typer.Option("--debian", help="With the packages that its host has now, which is asked for them.")
    ] = False,
) -> None:
    """Print what a release is made of, as CycloneDX JSON; of a host, the release that was built last for it.

    The same release gives the same bytes: neither times nor random numbers are in it. With --debian, exit code 3: the
    host can't be reached.
    """
    from cluster_ai.release import sbom
    from cluster_ai.release.store import Store

    config = ctx.obj.config()
    store = Store.of(config)
    digest, manifest = store.manifest(store.newest(of) or of)
    print(sbom.of(store, digest, manifest, _installed(config, manifest["host"]) if debian else ""))


def _installed(config: Config, host: str) -> str:
    """Raises ConfigError for a host that cluster.yaml doesn't have, HostError."""
    from cluster_ai.provision import ssh
    from cluster_ai.release.sbom import INSTALLED
    from cluster_ai.rollout.scope import Scope

    reply = ssh.run(ssh.calls(Scope(config, (host,)).argv(), INSTALLED, as_root=False))[host]
    if isinstance(reply, HostError):
        raise reply
    if reply.returncode:
        raise HostError("can't tell its packages", where=host, remedy=reply.stderr.strip()[-300:])
    return reply.text


@app.command()
def show(
    ctx: typer.Context,
    digest: Annotated[str, typer.Argument(help="A release's digest, or how it begins.")],
    as_json: Json = False,
) -> None:
    """Show a release that was built here."""
    from cluster_ai.release.store import Store

    name, manifest = Store.of(ctx.obj.config()).manifest(digest)
    if as_json:
        import json

        print(json.dumps(manifest, indent=2))
        return
    print(f"release {name}")
    print(f"host    {manifest['host']} ({', '.join(manifest['roles'])})")
    print(f"for     Python {manifest['python']} on {manifest['arch']}")
    for title in ("parts", "units"):
        for item, of in manifest[title].items():
            print(f"{title[:-1]:7} {item:30} {of[:16]}")
    for blob in manifest["blobs"]:
        print(f"blob    {blob[:16]}")
    for path in sorted(path for path in manifest["files"] if path.startswith(("etc/", "units/", "bin/"))):
        print(f"file    {path}")
    print(f"        {counted(len(manifest['files']), 'file')} in all")
