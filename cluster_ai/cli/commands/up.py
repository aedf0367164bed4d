"""`cluster-ai up`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    from rich.status import Status

    from cluster_ai.local import Event, Options, Started


def command(
    ctx: typer.Context,
    gateway_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default 11435.")] = None,
    dashboard_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default 8501.")] = None,
    dask_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of the scheduler. Default 8786.")] = None,
    dask_dashboard_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default 8787.")] = None,
    prometheus_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default 9090.")] = None,
    open_webui_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default 8502.")] = None,
    engine_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The first; the next free ones are used. Default 11440.")
    ] = None,
) -> None:
    """Start a whole cluster on this machine: scheduler, two workers with engines, gateway, Prometheus, dashboard.

    Everything runs as you, keeps its files in .cluster-ai/ (beside the file that --config names, or here), and listens
    on 127.0.0.1 only, where nobody is asked to log in (security.oidc is for hosts). With --config, ports, name and
    policy are those of the file; options go before it.
    """
    from cluster_ai.local import up

    began = time.monotonic()
    asked = {
        "gateway": gateway_port,
        "dashboard": dashboard_port,
        "dask": dask_port,
        "dask_dashboard": dask_dashboard_port,
        "prometheus": prometheus_port,
        "open_webui": open_webui_port,
        "engines": engine_port,
    }
    given = {name: port for name, port in asked.items() if port is not None}
    show = _shown()
    try:
        started = up(_options(ctx, given), show.event, os.environ)
    finally:
        show.close()
    for line in _summary(started, time.monotonic() - began, config_option(ctx)):
        print(line)
    if config_option(ctx) and (oidc := ctx.obj.config().security.oidc):
        print(
            f"\nNobody is asked to sign in here: security.oidc ({oidc.issuer}) is for the hosts of `cluster-ai apply`."
            "\nThis cluster listens on 127.0.0.1 alone, and whoever can log in to this machine may use all of it.",
            file=sys.stderr,
        )


def root(ctx: typer.Context) -> Path:
    """The folder that this machine's cluster is kept in."""
    return (ctx.obj.config_path.parent if config_option(ctx) else Path()) / ".cluster-ai"


def config_option(ctx: typer.Context) -> str:
    """`--config FILE` as it was given; empty where it was not."""
    source = ctx.parent.get_parameter_source("config") if ctx.parent else None
    return "" if source is None or source.name.startswith("DEFAULT") else f"--config {ctx.obj.config_path}"


def _options(ctx: typer.Context, given: Mapping[str, int]) -> Options:
    from cluster_ai.local import Options, Ports
    from cluster_ai.settings import LimitSettings

    options = Options(root(ctx))
    if config_option(ctx):
        config = ctx.obj.config()
        options = Options(
            root=options.root,
            ports=Ports(
                gateway=config.gateway.port,
                dashboard=config.interface.dashboard_port,
                dask=config.scheduler.port,
                dask_dashboard=config.scheduler.dashboard_port,
                prometheus=config.monitoring.port,
                open_webui=config.interface.open_webui_port,
            ),
            cluster=config.name,
            policy=config.gateway.policy,
            dashboard=config.interface.dashboard,
            open_webui=config.interface.open_webui,
            parallel=config.engine.parallel,
            context=config.engine.context_length,
            too_long=config.gateway.context,
            limits=LimitSettings(**asdict(config.gateway.limits)),
            traces=config.monitoring.traces,
            scrape_interval=config.monitoring.scrape_interval,
            retention=config.monitoring.retention,
            processes=config.scaling.processes,
        )
    return replace(options, ports=replace(options.ports, **given))


def _summary(started: Started, seconds: float, config: str) -> list[str]:
    state = started.state
    lines = ["The cluster is already up." if started.already else f"The cluster is up, after {seconds:.1f} s."]
    if answer := started.answer:
        from cluster_ai.local.start import PROMPT

        speed = f", {answer.tokens_per_second:.0f} tokens/s" if answer.tokens_per_second else ""
        lines += ["", f"> {PROMPT}", answer.text, f"({answer.worker}{speed})"]
    addresses = (
        ("gateway", state.gateway),
        ("dashboard", state.dashboard),
        ("chat", state.open_webui),
        ("Prometheus", state.prometheus),
        ("Dask", f"{state.dask_dashboard} (scheduler {state.dask})"),
    )
    lines += ["", *(f"{name:<12}{url}" for name, url in addresses if url)]
    lines.append(f"{'engine':<12}{state.engine}, on {', '.join(state.workers)}")
    lines += [f"{'lacks':<12}{lack}" for lack in state.lacks]
    down = " ".join(word for word in ("cluster-ai", config, "down") if word)
    return [*lines, "", f"To stop it: {down}" + ("" if config else "  (in a checkout: make down)")]


class _Shown(Protocol):
    def event(self, event: Event) -> None: ...

    def close(self) -> None: ...


def _shown() -> _Shown:
    return _Moving() if sys.stderr.isatty() else _Plain()


def _words(event: Event) -> str | None:
    if event.kind == "ready":
        return f"{event.component}: ready after {event.seconds:.1f} s"
    return f"{event.component}: {event.detail}" if event.kind == "restarting" else None


class _Plain:
    def event(self, event: Event) -> None:
        if words := _words(event):
            print(words, file=sys.stderr, flush=True)
        elif event.kind == "up":
            print("asking the first prompt", file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class _Moving:
    """A spinner that names what is still awaited, above it a line for each that is ready."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console: Any = Console(stderr=True)
        self._awaited: list[str] = []
        self._status: Status = self._console.status("preparing")
        self._status.start()

    def event(self, event: Event) -> None:
        if event.kind == "starting" and event.component not in self._awaited:
            self._awaited.append(event.component)
        elif event.kind == "ready" and event.component in self._awaited:
            self._awaited.remove(event.component)
        if words := _words(event):
            self._console.print(
                f"[green]\N{CHECK MARK}[/] {words}" if event.kind == "ready" else words, highlight=False
            )
        self._status.update("asking the first prompt" if event.kind == "up" else f"starting {', '.join(self._awaited)}")

    def close(self) -> None:
        self._status.stop()
