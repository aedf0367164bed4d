"""`cluster-ai rollouts`: what rollouts did, and what is to become of one that didn't end."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_ai.cli.rolling import Yes, leave, must_ask, print_report, report_json, showing, step
from cluster_ai.cli.session import AskPassword, Json, look, say, sudo_password
from cluster_ai.cli.tables import table
from cluster_ai.errors import ErrorGroup

if TYPE_CHECKING:
    from cluster_ai.config import Config
    from cluster_ai.rollout.executor import Report
    from cluster_ai.rollout.journal import Journal, Rollout
    from cluster_ai.rollout.scope import Scope

app = typer.Typer(no_args_is_help=True)
Which = Annotated[str | None, typer.Argument(metavar="[ID]", help="A rollout's id, or how it begins; the newest.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    as_json: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Show this cluster's rollouts, the newest first.

    Those of other controllers too, of which the head host has copies.
    """
    journal = _journal(ctx.obj.config(), ask_sudo_password)
    found = journal.all()
    if as_json:
        print(json.dumps([it.as_dict() for it in found], indent=2))
        return
    table("Rollouts", [_row(it) for it in found])
    if not found:
        print("There has been no rollout yet.")


@app.command()
def show(
    ctx: typer.Context, which: Which = None, as_json: Json = False, ask_sudo_password: AskPassword = False
) -> None:
    """Show what a rollout was to do, and what it did, step by step."""
    rollout = _journal(ctx.obj.config(), ask_sudo_password).get(which)
    if as_json:
        print(json.dumps(rollout.as_dict(), indent=2))
        return
    from cluster_ai.cli.render import short
    from cluster_ai.rollout.journal import STATES

    print(f"rollout   {rollout.id}  {rollout.state}: {rollout.reason or STATES[rollout.state]}")
    print(f"by        {rollout.who}: {rollout.command}, {rollout.intent.strategy}")
    print(f"started   {_time(rollout.started)}" + (f", ended {_time(rollout.ended)}" if rollout.ended else ""))
    for host, change in rollout.intent.hosts.items():
        print(f"host      {host}: {short(change.before)} -> {short(change.wanted)}")
    for number, wave in enumerate(rollout.intent.waves, 1):
        print(f"wave {number:4} {wave['kind']}: {', '.join(wave['hosts'])}")
    for it in rollout.steps:
        words = " ".join(word for word in (it.host, it.step, it.status) if word)
        print(f"{_time(it.at)}  {words}" + (f": {it.detail}" if it.detail else ""))


@app.command()
def resume(
    ctx: typer.Context,
    which: Which = None,
    yes: Yes = False,
    as_json: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Go on with a rollout that waits or was cut off.

    With the waves that are left, and the very same releases.
    A wave whose analysis could not tell counts as passed, since you say so. Exit codes as of apply; 64: it can't be
    resumed.
    """
    must_ask(yes, as_json)
    from cluster_ai.rollout.records import leased, locked

    with locked(ctx.obj.config_path, "cluster-ai rollouts resume") as journal:
        session = look(ctx.obj, None, ask_sudo_password)
        from cluster_ai.rollout import resuming, survey
        from cluster_ai.rollout.executor import Executor

        _refresh(session.scope, journal, locked=True)
        rollout = journal.get(which)
        found = survey.take(session.scope, session.placement, session.seen)
        waves = resuming.left(rollout, found)
        _ask(
            f"Go on with rollout {rollout.id}: {'; '.join(', '.join(it.hosts) for it in waves) or 'the last gate'}", yes
        )
        with leased(session.scope, journal, f"cluster-ai rollouts resume {rollout.id}") as record:
            record.resume(rollout, "resume")
            progress = showing(as_json)
            try:
                report = Executor(
                    session.scope, session.placement, record, progress.stage, lambda event: step(progress, event)
                ).run(found, waves)
            finally:
                progress.close()
    _tell(session.scope.config, report, as_json)


@app.command()
def undo(
    ctx: typer.Context,
    which: Which = None,
    yes: Yes = False,
    as_json: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Take a rollout back on the hosts that still run it.

    They run again what they ran before it.
    Exit code 0: done, or nothing to do. 3: a host can't be reached; nothing was changed. 4: a host doesn't become
    healthy, or doesn't have the release any more. 75: another run changes this cluster.
    """
    must_ask(yes, as_json)
    from cluster_ai.rollout.records import leased, locked

    with locked(ctx.obj.config_path, "cluster-ai rollouts undo") as journal:
        config = ctx.obj.config()
        from cluster_ai.rollout import undo as back
        from cluster_ai.rollout.scope import Scope

        scope = Scope(config, (), sudo_password(ask_sudo_password))
        probe = scope.probe()
        _refresh(scope, journal, locked=True)
        rollout = journal.get(which)
        seen = probe.results()
        changes = back.still_there(rollout, back.of([rollout], seen))
        if errors := back.possible(changes, seen):
            raise ErrorGroup(errors)
        waves = back.halves(list(changes), scope.head.name)
        _ask(f"Take rollout {rollout.id} back on {', '.join(changes) or 'no host'}", yes)
        with leased(scope, journal, f"cluster-ai rollouts undo {rollout.id}") as record:
            record.resume(rollout, "undo")
            progress = showing(as_json)
            try:
                report = back.switch_back(
                    scope, record, changes, waves, progress.stage, lambda event: step(progress, event)
                )
            finally:
                progress.close()
            record.end("undone" if report.ok else "failed", "; ".join(it.what for it in report.failed.values()))
    _tell(config, report, as_json)


def _journal(config: Config, ask_sudo_password: bool) -> Journal:
    from cluster_ai.rollout.records import journal_of
    from cluster_ai.rollout.scope import Scope

    journal = journal_of(config.path)
    _refresh(Scope(config, (), sudo_password(ask_sudo_password)), journal)
    return journal


def _refresh(scope: Scope, journal: Journal, *, locked: bool = False) -> None:
    from cluster_ai.rollout.records import refreshed

    for error in refreshed(scope, journal, locked=locked):
        say(error)


def _ask(what: str, yes: bool) -> None:
    if not yes:
        typer.confirm(f"{what}?", abort=True)


def _tell(config: Config, report: Report, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"format": 1, **report_json(report)}, indent=2))
    else:
        print_report(config, report)
    leave(report, as_json)


def _row(rollout: Rollout) -> dict[str, str]:
    ended = f"{rollout.ended - rollout.started:.0f} s" if rollout.ended else ""
    return {
        "rollout": rollout.id,
        "state": rollout.state,
        "hosts": str(len(rollout.intent.hosts)),
        "strategy": rollout.intent.strategy,
        "took": ended,
        "by": rollout.who,
        "last step": rollout.reason.splitlines()[0] if rollout.reason else rollout.at,
    }


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
