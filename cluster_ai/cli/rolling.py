"""What the commands that change a cluster share: options of a rollout, holding lock and lease, telling how it went."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster_ai.cli.session import say
from cluster_ai.errors import ExitCode

if TYPE_CHECKING:
    from cluster_ai.cli.progress import Shown
    from cluster_ai.config import Config
    from cluster_ai.config.override import Override
    from cluster_ai.deploys.data import Event
    from cluster_ai.rollout.executor import Report

Strategy = Annotated[str | None, typer.Option("--strategy", help="rolling, canary or blue-green; this time only.")]
MaxUnavailable = Annotated[
    str | None,
    typer.Option("--max-unavailable", metavar="N|SHARE", help="Workers out at once; this time only."),
]
Canary = Annotated[
    str | None,
    typer.Option("--canary", metavar="N|SHARE|HOSTS", help="Who goes first and is judged; this time only."),
]
Pause = Annotated[str | None, typer.Option("--pause", metavar="DURATION", help="Between waves; this time only.")]
Bake = Annotated[
    str | None, typer.Option("--bake", metavar="DURATION", help="How long a canary is watched; this time only.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before changing anything.")]


def overriding(
    strategy: str | None, max_unavailable: str | None, canary: str | None, pause: str | None, bake: str | None
) -> Override | None:
    """The options of a rollout; None where none is given."""
    if (strategy, max_unavailable, canary, pause, bake) == (None,) * 5:
        return None
    from cluster_ai.config.override import Override

    return Override(strategy, max_unavailable, canary, pause, bake)


def must_ask(yes: bool, as_json: bool) -> None:
    """Raises where a person would have to be asked, and none is there."""
    if not yes and (as_json or not sys.stdin.isatty()):
        raise typer.BadParameter("there is no terminal to ask on: say --yes")


def showing(as_json: bool) -> Shown:
    from cluster_ai.cli.progress import shown

    return shown(sys.stderr if as_json else sys.stdout)


def step(progress: Shown, event: Event) -> None:
    progress.step(event.host, event.step, event.status, event.detail)


def print_report(config: Config, report: Report) -> None:
    for model, what in report.models.items():
        print(f"{model}: {what}", file=sys.stderr)
    for verdict in report.verdicts:
        print(f"Analysis of {', '.join(verdict['hosts'])}: {verdict['result']}")
        for check in verdict["checks"]:
            print(f"  {check['sentence']}")
    if report.done:
        print(f"Done: {', '.join(report.done)}")
    if report.returned:
        print(f"Returned to what they ran before: {', '.join(report.returned)}")
    if report.untouched:
        print(f"Left as they were: {', '.join(report.untouched)}")
    for note in report.notes:
        print(f"Note: {note}")
    if report.halt:
        print(report.halt.why, file=sys.stderr)
        if report.halt.kind == "pause":
            print(f"  -> look at it, then: cluster-ai rollouts resume, or undo {report.rollout}", file=sys.stderr)
    if report.ok:
        print(f"Gateway:   {config.gateway_url}  (token: cluster-ai status --token)")
        if config.interface.dashboard:
            print(f"Dashboard: {config.dashboard_url}")
        if config.interface.open_webui:
            print(f"Chat:      {config.open_webui_url}")


def report_json(report: Report | None) -> dict[str, Any]:
    from cluster_ai.cli.render import error_json

    return {
        "rollout": report.rollout if report else None,
        "done": report.done if report else [],
        "failed": [error_json(error) for error in report.failed.values()] if report else [],
        "returned": report.returned if report else [],
        "untouched": report.untouched if report else [],
        "models": report.models if report else {},
        "halt": {"kind": report.halt.kind, "why": report.halt.why} if report and report.halt else None,
        "verdicts": report.verdicts if report else [],
        "notes": report.notes if report else [],
    }


def leave(report: Report, as_json: bool) -> None:
    """Tell of the errors, and end with the exit code of a rollout that isn't well."""
    if not as_json:
        for error in report.failed.values():
            say(error)
    if not report.ok:
        raise typer.Exit(next((error.exit_code for error in report.failed.values()), ExitCode.ROLLOUT))
