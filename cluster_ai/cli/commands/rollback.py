"""`cluster-ai rollback`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_ai.cli.rolling import Yes, leave, must_ask, print_report, report_json, showing, step
from cluster_ai.cli.session import AskPassword, Json, Limit, names, say, sudo_password
from cluster_ai.errors import ErrorGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster_ai.rollout.journal import Change

COMMAND = "cluster-ai rollback"


def command(
    ctx: typer.Context,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="ROLLOUT|DIGEST", help="To where that rollout led; the one before the last."),
    ] = None,
    limit: Limit = None,
    yes: Yes = False,
    as_json: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Bring hosts back to the releases that they ran before: these are still there, so it takes seconds.

    Half of the workers at once, so that the cluster goes on serving. cluster.yaml stays as it is: the next apply brings
    the newer releases again, unless the change is taken back there too.

    Exit code 0: done, or nothing to do. 3: a host can't be reached; nothing was changed. 4: a host doesn't have that
    release any more, or doesn't become healthy with it. 64: no such rollout. 75: another run changes this cluster.
    """
    must_ask(yes, as_json)
    from cluster_ai.rollout.records import locked

    with locked(ctx.obj.config_path, COMMAND) as journal:
        config = ctx.obj.config()
        from cluster_ai.rollout import undo
        from cluster_ai.rollout.records import config_digest, leased, refreshed
        from cluster_ai.rollout.scope import Scope

        scope = Scope(config, names(limit), sudo_password(ask_sudo_password))
        probe = scope.probe()
        for what in refreshed(scope, journal, locked=True):
            say(what)
        seen = probe.results()
        rollouts = undo.lasting(journal.all())
        changes = undo.of(undo.since(rollouts, to) if to else rollouts[:1], seen)
        changes = {host: it for host, it in changes.items() if host in seen}
        if errors := undo.possible(changes, seen):
            raise ErrorGroup(errors)
        waves = undo.halves(list(changes), scope.head.name)
        report = None
        if changes:
            if not as_json:
                _print(changes)
            if not yes:
                typer.confirm("Do this?", abort=True)
            with leased(scope, journal, COMMAND) as record:
                record.begin(COMMAND, undo.intent(config.name, config_digest(config), changes, waves))
                progress = showing(as_json)
                try:
                    report = undo.switch_back(
                        scope, record, changes, waves, progress.stage, lambda event: step(progress, event)
                    )
                finally:
                    progress.close()
                record.end("done" if report.ok else "failed", "; ".join(it.what for it in report.failed.values()))
    if as_json:
        import json

        print(json.dumps({"format": 1, **report_json(report)}, indent=2))
    elif report is None:
        print("Nothing to do: no host runs anything newer.")
    else:
        print_report(config, report)
        print(
            "cluster.yaml still asks for the newer releases: take its change back too, or the next apply brings them."
        )
    if report:
        leave(report, as_json)


def _print(changes: Mapping[str, Change]) -> None:
    from cluster_ai.cli.render import short

    for host, change in changes.items():
        print(f"{host}: release {short(change.before)} -> {short(change.wanted)}")
    sys.stdout.flush()
