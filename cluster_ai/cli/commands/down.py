"""`cluster-ai down`."""

from __future__ import annotations

import typer

from cluster_ai.cli.commands.up import root


def command(ctx: typer.Context) -> None:
    """Stop the cluster that `cluster-ai up` started here; its files in .cluster-ai/ stay."""
    from cluster_ai.local import down

    print("The cluster is stopped." if down(root(ctx)) else "No cluster was up here.")
