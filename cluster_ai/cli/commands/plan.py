"""`cluster-ai plan`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster_ai.cli.building import building
from cluster_ai.cli.rolling import Bake, Canary, MaxUnavailable, Pause, Strategy, overriding
from cluster_ai.cli.session import AskPassword, Json, Limit, look, names, say
from cluster_ai.errors import ExitCode


def command(
    ctx: typer.Context,
    limit: Limit = None,
    as_json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a comment on a merge or pull request.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Keep the plan there too: `apply FILE` does exactly this, or nothing."
        ),
    ] = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Leave it on the head host, where the dashboard shows it.")
    ] = False,
    strategy: Strategy = None,
    max_unavailable: MaxUnavailable = None,
    canary: Canary = None,
    pause: Pause = None,
    bake: Bake = None,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Show what apply would change, per component, host and file, and when; nothing is changed by this.

    With --publish, the head host keeps it in words, with cluster.yaml, for operators who look at the dashboard.

    Exit code 0: nothing to do. 2: changes are pending. 3: a host could not be asked; the others are shown.
    """
    if as_json and markdown:
        raise typer.BadParameter("--json and --markdown can't both be printed")
    if out:
        from cluster_ai.rollout.planfile import must_be_free

        must_be_free(out)
    asked = overriding(strategy, max_unavailable, canary, pause, bake)
    session = look(ctx.obj, limit, ask_sudo_password, asked)
    from cluster_ai.rollout import survey

    with building(sys.stderr) as progress:
        plan = survey.take(session.scope, session.placement, session.seen, progress=progress).plan
    if out:
        from cluster_ai.rollout import planfile

        planfile.write(out, planfile.of(plan, planfile.Inputs.of(session.scope.config, names(limit), asked)))
    if as_json:
        import json

        from cluster_ai.cli.render import plan_json

        print(json.dumps(plan_json(plan), indent=2, default=list))
    elif markdown:
        from cluster_ai.cli.markdown import comment

        print(comment(plan), end="")
    else:
        from cluster_ai.cli.render import print_plan

        print_plan(plan)
    if not as_json:
        for error in plan.errors:
            say(error)
    if publish:
        from cluster_ai.cli.publishing import words
        from cluster_ai.rollout import planned, records

        planned.publish(records.head_of(session.scope), words(plan, session.scope.config, names(limit)))
    if plan.errors:
        raise typer.Exit(ExitCode.HOST)
    if plan.changes:
        raise typer.Exit(ExitCode.CHANGES)
