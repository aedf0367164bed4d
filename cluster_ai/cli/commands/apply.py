"""`cluster-ai apply`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster_ai.cli.building import building
from cluster_ai.cli.rolling import (
    Bake,
    Canary,
    MaxUnavailable,
    Pause,
    Strategy,
    Yes,
    leave,
    must_ask,
    overriding,
    print_report,
    report_json,
    showing,
    step,
)
from cluster_ai.cli.session import AskPassword, Json, Limit, Session, look, names, say
from cluster_ai.errors import ExitCode

if TYPE_CHECKING:
    from cluster_ai.config.override import Override
    from cluster_ai.rollout.executor import Report
    from cluster_ai.rollout.journal import Journal
    from cluster_ai.rollout.planfile import Saved
    from cluster_ai.rollout.survey import Survey

COMMAND = "cluster-ai apply"


def command(
    ctx: typer.Context,
    plan: Annotated[
        Path | None, typer.Argument(metavar="[PLAN]", help="A plan of `plan --out`: exactly this, or nothing.")
    ] = None,
    limit: Limit = None,
    yes: Yes = False,
    as_json: Json = False,
    converge: Annotated[
        bool, typer.Option("--converge", help="Run the host layer though hosts say that it has run.")
    ] = False,
    strategy: Strategy = None,
    max_unavailable: MaxUnavailable = None,
    canary: Canary = None,
    pause: Pause = None,
    bake: Bake = None,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Make the hosts be what cluster.yaml says.

    Exit code 0: done, or nothing to do. 2: the given plan is not that of the world any more; nothing was changed. 3: a
    host could not be reached; the others are done. 4: a step failed, or a canary did: every host that had been switched
    runs what it ran before, and later hosts were left as they were; or a rollout waits for `rollouts resume`.
    75: another run changes this cluster.
    """
    must_ask(yes, as_json)
    from cluster_ai.rollout.records import locked

    override = overriding(strategy, max_unavailable, canary, pause, bake)
    with locked(ctx.obj.config_path, COMMAND) as journal:
        saved = _saved(ctx.obj.config(), plan, limit, converge, override) if plan else None
        if saved:
            limit, override = list(saved.limit), saved.override
        session = look(ctx.obj, limit, ask_sudo_password, override)
        found = _survey(session, converge)

        def must_be(it: Survey) -> None:
            if plan and saved:
                _must_be(plan, saved, session, it)

        must_be(found)
        report = _carry_out(session, journal, found, must_be, converge, yes, as_json) if found.plan.changes else None
    if as_json:
        import json

        from cluster_ai.cli.render import error_json, plan_json

        told: dict[str, Any] = {"format": 1, "plan": plan_json(found.plan), **report_json(report)}
        told["errors"] = [error_json(error) for error in found.plan.errors]
        print(json.dumps(told, indent=2, default=list))
    elif report is None:
        from cluster_ai.cli.render import summary

        if found.plan.hosts:
            print(summary(found.plan))
    else:
        print_report(session.scope.config, report)
    if not as_json:
        for error in found.plan.errors:
            say(error)
    if report:
        leave(report, as_json)
    if found.plan.errors:
        raise typer.Exit(ExitCode.HOST)


def _survey(session: Session, converge: bool) -> Survey:
    from cluster_ai.rollout import survey

    with building(sys.stderr) as progress:
        return survey.take(session.scope, session.placement, session.seen, converge=converge, progress=progress)


def _saved(config: Any, path: Path, limit: list[str] | None, converge: bool, override: Override | None) -> Saved:
    if names(limit) or converge or override:
        raise typer.BadParameter("a plan says itself what is to be done: give its options to `plan`")
    from cluster_ai.rollout import planfile

    return planfile.load(path, config.name)


def _must_be(path: Path, saved: Saved, session: Session, found: Survey) -> None:
    """Raises StalePlanError where the plan isn't what would be planned now."""
    from cluster_ai.rollout import planfile

    inputs = planfile.Inputs.of(session.scope.config, saved.limit, saved.override)
    if reasons := planfile.check(saved, planfile.of(found.plan, inputs)):
        raise planfile.StalePlanError(path, saved, reasons)


def _carry_out(
    session: Session,
    journal: Journal,
    found: Survey,
    must_be: Callable[[Survey], None],
    converge: bool,
    yes: bool,
    as_json: bool,
) -> Report:
    from cluster_ai.cli.render import print_plan
    from cluster_ai.rollout.executor import Executor
    from cluster_ai.rollout.records import intent, leased
    from cluster_ai.rollout.survey import again

    if not as_json:
        print_plan(found.plan)
    if not yes:
        for error in found.plan.errors:
            say(error)
        typer.confirm("Do this?", abort=True)
    with leased(session.scope, journal, COMMAND) as record:
        found = again(session.scope, session.placement, found, record.released, converge=converge)
        must_be(found)
        record.begin(COMMAND, intent(session.scope.config, found.plan))
        progress = showing(as_json)
        try:
            made = Executor(
                session.scope, session.placement, record, progress.stage, lambda event: step(progress, event)
            )
            return made.run(found)
        finally:
            progress.close()
