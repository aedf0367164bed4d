"""`cluster-ai plan`."""

from __future__ import annotations

import sys

import typer

from cluster_ai.cli.building import building
from cluster_ai.cli.session import AskPassword, Json, Limit, look, say
from cluster_ai.errors import ExitCode


def command(
    ctx: typer.Context,
    limit: Limit = None,
    as_json: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Show what apply would change, per host and per file; nothing is changed by this.

    Exit code 0: nothing to do. 2: changes are pending. 3: a host could not be asked; the others are shown.
    """
    session = look(ctx.obj, limit, ask_sudo_password)
    from cluster_ai.rollout import survey

    with building(sys.stderr) as progress:
        plan = survey.take(session.scope, session.placement, session.seen, progress=progress).plan
    if as_json:
        import json

        from cluster_ai.cli.render import plan_json

        print(json.dumps(plan_json(plan), indent=2, default=list))
    else:
        from cluster_ai.cli.render import print_plan

        print_plan(plan)
        for error in plan.errors:
            say(error)
    if plan.errors:
        raise typer.Exit(ExitCode.HOST)
    if plan.changes:
        raise typer.Exit(ExitCode.CHANGES)
