"""`cluster-ai report`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer

from cluster_ai.cli.monitoring import prometheus_of, scope_of
from cluster_ai.cli.session import AskPassword, sudo_password
from cluster_ai.errors import ClusterAIError, ExitCode

if TYPE_CHECKING:
    from cluster_ai.cli.main import Invocation
    from cluster_ai.report.measurements import Measurements
    from cluster_ai.rollout.journal import Rollout
    from cluster_ai.rollout.prometheus import Span
    from cluster_ai.rollout.scope import Scope

DAY = 86400.0


def command(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("cluster-ai-report.html"),
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How far back it looks.")] = 7,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Draw what the cluster did: use, speed, failures, hosts, alerts, rollouts, benchmarks; one HTML file.

    It needs no network to look at. Use is the gateway's account, the rest is Prometheus' and this machine's.

    Exit code 0: it is written. 5: it is written, but something could not be asked, which the page says, too. 64: Bokeh
    isn't installed. 65: the file can't be written.
    """
    from cluster_ai.report import page

    now = time.time()
    span = (now - days * DAY, now)
    scope = scope_of(ctx.obj, sudo_password(ask_sudo_password))
    missing: list[str] = []
    measured = _measured(ctx.obj, scope, span, missing)
    cluster, usage = _account(ctx.obj, scope, span, missing)
    from cluster_ai.bench import history
    from cluster_ai.bench.results import Result

    material = page.Material(
        cluster=cluster,
        span=span,
        measured=measured,
        usage=usage,
        bench=history.kept(ctx.obj.config_path.resolve().parent / ".cluster-ai" / "bench.jsonl", Result),
        rollouts=_rollouts(ctx.obj, scope, missing),
        missing=missing,
    )
    try:
        file.write_text(page.html(material))
    except OSError as error:
        from cluster_ai.errors import ConfigError

        raise ConfigError(f"can't be written: {error.strerror}", where=str(file)) from error
    for text in missing:
        print(text, file=sys.stderr)
    print(f"{file}: {page.day(span[0])} to {page.day(span[1])}")
    if missing:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _measured(invocation: Invocation, scope: Scope | None, span: Span, missing: list[str]) -> Measurements | None:
    from cluster_ai.report import measurements

    try:
        measured = measurements.read(prometheus_of(invocation, scope), span)
    except ClusterAIError as error:
        missing.append(
            f"Prometheus could not be asked, so speed, failures, hosts and alerts are missing: {error.what}."
        )
        return None
    if measured is None:
        missing.append("Prometheus has no measurements of this time.")
    return measured


def _account(
    invocation: Invocation, scope: Scope | None, span: Span, missing: list[str]
) -> tuple[str, dict[str, Any] | None]:
    """The cluster's name, and what was used in it."""
    from cluster_ai.cli.gateway import find

    name = scope.config.name if scope else "The cluster of this machine"
    first, last = (time.strftime("%Y-%m-%d", time.gmtime(at)) for at in span)
    asked = [("first", first), ("last", last), *(("by", key) for key in ("day", "user", "model"))]
    try:
        return name, find(invocation, None).ask("GET", f"/api/v1/usage?{urlencode(asked)}")
    except ClusterAIError as error:
        missing.append(f"The gateway could not be asked; what was used is missing: {error.what}.")
        return name, None


def _rollouts(invocation: Invocation, scope: Scope | None, missing: list[str]) -> tuple[Rollout, ...]:
    from cluster_ai.rollout.records import journal_of, refreshed

    journal = journal_of(invocation.config_path)
    if scope is None:
        return ()
    missing += (
        f"Other controllers' rollouts may be missing: {it.where}: {it.what}." for it in refreshed(scope, journal)
    )
    return journal.all(200)
