"""`cluster-ai apply`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster_ai.cli.building import building
from cluster_ai.cli.session import AskPassword, Json, Limit, Session, look, say
from cluster_ai.errors import ExitCode

if TYPE_CHECKING:
    from cluster_ai.rollout.executor import Report
    from cluster_ai.rollout.survey import Survey


def command(
    ctx: typer.Context,
    limit: Limit = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before changing anything.")] = False,
    as_json: Json = False,
    converge: Annotated[
        bool, typer.Option("--converge", help="Run the host layer though hosts say that it has run.")
    ] = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Make the hosts be what cluster.yaml says.

    Exit code 0: done, or nothing to do. 3: a host could not be reached; the others are done. 4: a step failed; what had
    been switched on that host was put back, and later hosts were left as they were.
    """
    if not yes and (as_json or not sys.stdin.isatty()):
        raise typer.BadParameter("there is no terminal to ask on: say --yes")
    from cluster_ai.rollout.lock import hold

    with hold(ctx.obj.config_path.resolve().parent / ".cluster-ai" / "lock", "cluster-ai apply"):
        session = look(ctx.obj, limit, ask_sudo_password)
        from cluster_ai.rollout import survey

        with building(sys.stderr) as progress:
            found = survey.take(session.scope, session.placement, session.seen, converge=converge, progress=progress)
        report = _carry_out(session, found, yes, as_json) if found.plan.changes else None
    if as_json:
        import json

        print(json.dumps(_json(found, report), indent=2, default=list))
    elif report is None:
        from cluster_ai.cli.render import summary

        if found.plan.hosts:
            print(summary(found.plan))
    else:
        _print(session, report)
    errors = [*found.plan.errors, *(report.failed.values() if report else ())]
    if not as_json:
        for error in errors:
            say(error)
    if report and not report.ok:
        code = next((error.exit_code for error in report.failed.values()), ExitCode.ROLLOUT)
        raise typer.Exit(code)
    if found.plan.errors:
        raise typer.Exit(ExitCode.HOST)


def _carry_out(session: Session, found: Survey, yes: bool, as_json: bool) -> Report:
    from cluster_ai.cli.progress import shown
    from cluster_ai.cli.render import print_plan
    from cluster_ai.rollout.executor import Executor

    if not as_json:
        print_plan(found.plan)
    if not yes:
        for error in found.plan.errors:
            say(error)
        typer.confirm("Do this?", abort=True)
    progress = shown(sys.stderr if as_json else sys.stdout)
    try:
        return Executor(
            session.scope,
            session.placement,
            progress.stage,
            lambda event: progress.step(event.host, event.step, event.status, event.detail),
        ).run(found)
    finally:
        progress.close()


def _print(session: Session, report: Report) -> None:
    for model, what in report.models.items():
        print(f"{model}: {what}", file=sys.stderr)
    if report.done:
        print(f"Done: {', '.join(report.done)}")
    if report.untouched:
        print(f"Left as they were: {', '.join(report.untouched)}")
    for note in report.notes:
        print(f"Note: {note}")
    if report.ok:
        config = session.scope.config
        address = config.scheduler.host
        print(f"Gateway:   http://{address}:{config.gateway.port}  (token: cluster-ai status --token)")
        if config.interface.dashboard:
            print(f"Dashboard: http://{address}:{config.interface.dashboard_port}")


def _json(found: Survey, report: Report | None) -> dict[str, Any]:
    from cluster_ai.cli.render import error_json, plan_json

    return {
        "format": 1,
        "plan": plan_json(found.plan),
        "done": report.done if report else [],
        "failed": [error_json(error) for error in report.failed.values()] if report else [],
        "untouched": report.untouched if report else [],
        "models": report.models if report else {},
        "notes": report.notes if report else [],
    }
