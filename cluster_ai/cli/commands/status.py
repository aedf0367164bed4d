"""`cluster-ai status`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster_ai.cli.gateway import Client, find
from cluster_ai.cli.monitoring import local_of
from cluster_ai.cli.session import AskPassword, Json, say, sudo_password
from cluster_ai.cli.tables import table
from cluster_ai.errors import ClusterAIError, ConfigError, ExitCode, HostError, HostKeyError, UnavailableError
from cluster_ai.sizes import counted

if TYPE_CHECKING:
    from cluster_ai.rollout.observe import Observed
    from cluster_ai.rollout.scope import Scope

STATUS = "/api/v1/cluster/status"


def command(
    ctx: typer.Context,
    as_json: Json = False,
    token: Annotated[bool, typer.Option("--token", help="Print the gateway's token, and nothing else.")] = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Show how the cluster is: its hosts, their releases and units, and what the gateway says of workers and models.

    Without a cluster.yaml, the cluster that `cluster-ai up` started here.

    Exit code 0: the gateway answers. 3: it does, but a host can't be reached. 5: the gateway doesn't answer.
    """
    local = local_of(ctx.obj)
    if local is not None and not token and not ctx.obj.config_path.exists():
        _show_local(find(ctx.obj, None), as_json)
        return
    password = sudo_password(ask_sudo_password)
    config = ctx.obj.config()
    if token:
        from cluster_ai.rollout import credentials

        print(credentials.token(config))
        return
    from cluster_ai.rollout.scope import Scope
    from cluster_ai.rollout.survey import sleeping

    scope = Scope(config, (), password)
    probe = scope.probe()
    try:
        gateway, wrong = _ask(scope)
        seen = probe.results()
    finally:
        probe.cancel()
    asleep = sleeping(scope.hosts, seen)
    away = [it for host, it in seen.items() if isinstance(it, HostError) and host not in asleep]
    if as_json:
        import json

        print(json.dumps(_json(scope, seen, gateway, wrong), indent=2))
    else:
        _print(scope, seen, gateway)
        if local is not None:
            print(f"A cluster is up on this machine too: {local.gateway}")
        for error in (*away, *([wrong] if wrong else [])):
            say(error)
    if wrong:
        raise typer.Exit(wrong.exit_code)
    if away:
        raise typer.Exit(ExitCode.HOST)


def _show_local(client: Client, as_json: bool) -> None:
    """What there is of a cluster without hosts."""
    gateway = client.ask("GET", STATUS)
    if as_json:
        import json

        print(json.dumps({"format": 1, "hosts": [], "gateway": gateway, "error": None}, indent=2))
    else:
        _print_gateway(gateway, client.url)


def _ask(scope: Scope) -> tuple[dict[str, Any] | None, ClusterAIError | None]:
    from cluster_ai.rollout import credentials

    try:
        status, answer = scope.gateway(credentials.token(scope.config)).ask("GET", STATUS)
    except HostError as error:
        return None, UnavailableError(
            f"the gateway can't be asked: {error.what}", where=error.where, remedy=error.remedy
        )
    except (UnavailableError, ConfigError) as error:
        return None, error
    if status != 200 or not isinstance(answer, dict):
        return None, UnavailableError(
            f"the gateway answers {status}",
            where=scope.head.name,
            remedy="cluster-ai apply, if its token is another one",
        )
    return answer, None


def row(host: str, roles: str, seen: Observed | HostError, now: float) -> dict[str, str]:
    """A host in words, for people."""
    from cluster_ai.cli.render import short
    from cluster_ai.tls.validity import validity

    if isinstance(seen, HostError):
        why = "can't be reached"
        if isinstance(seen, HostKeyError):
            why = "shows another SSH host key" if seen.changed else "its SSH host key is unknown"
        return {"host": host, "roles": roles, "release": "?", "units": why, "certificate": "?"}
    wrong = [f"{unit}: {state.active}" for unit, state in seen.units.items() if not state.up]
    units = ", ".join(wrong) or (f"{len(seen.units)} active" if seen.units else "none")
    certificate = "none"
    if seen.certificate:
        try:
            certificate = f"{counted(round((validity(seen.certificate).end - now) / 86400), 'day')} left"
        except ValueError:
            certificate = "can't be read"
    return {"host": host, "roles": roles, "release": short(seen.current), "units": units, "certificate": certificate}


def _print(scope: Scope, seen: Mapping[str, Observed | HostError], gateway: dict[str, Any] | None) -> None:
    from cluster_ai.rollout.survey import sleeping

    now = time.time()
    rows = [row(host.name, ", ".join(sorted(host.roles)), seen[host.name], now) for host in scope.hosts]
    for name in sleeping(scope.hosts, seen):
        next(it for it in rows if it["host"] == name)["units"] = "on standby"
    table("Hosts", rows)
    if gateway is not None:
        _print_gateway(gateway, scope.config.gateway_url)


def _print_gateway(gateway: Mapping[str, Any], url: str) -> None:
    table("Workers", [worker_row(worker) for worker in gateway["workers"]])
    for worker in gateway["workers"]:
        for text in worker.get("warnings") or ():  # a gateway of an older release has none
            print(f"{worker['name']}: {text}")
    parts = [f"{gateway['active_workers']} of {counted(gateway['total_workers'], 'worker')} active"]
    parts.append(counted(gateway["active_tasks"], "task"))
    parts += [f"CPU {gateway['cpu_utilization']:.0%}"] if gateway["cpu_utilization"] is not None else []
    parts += [f"memory {gateway['memory_usage']:.0%}"] if gateway["memory_usage"] is not None else []
    parts.append(counted(gateway["gpu_available"], "GPU"))
    print(f"Gateway {url}: {', '.join(parts)}")
    if not gateway["scheduler_connected"]:
        print(f"The gateway has lost the Dask scheduler: {gateway['scheduler_reason'] or 'no reason given'}")


def worker_row(worker: Mapping[str, Any]) -> dict[str, str]:
    state = worker["state"] + (f" ({worker['reason']})" if worker.get("reason") else "")
    loaded = set(worker["loaded"])
    models = ", ".join(f"{name}{'' if name in loaded else ' (not loaded)'}" for name in worker["placed"])
    cards = [_card(it) for it in worker.get("gpu") or ()]
    cpu = f"{worker['cpu']:.0%}" if worker.get("cpu") is not None else "?"
    return {
        "worker": worker["name"],
        "state": state,
        "models": models or "none",
        "requests": f"{worker['in_flight']} of {worker['slots']}",
        "cpu": cpu,
        "memory": _used(worker.get("memory_used"), worker.get("memory_total")),
        "cards": ", ".join(cards),
    }


def _card(card: Mapping[str, Any]) -> str:
    if card["memory_total"] is None:
        return f"{card['name']} (shares the host's memory)"
    return f"{card['name']} {_used(card['memory_used'], card['memory_total'])}"


def _used(used: int | None, whole: int | None) -> str:
    return f"{used / 1e9:.0f} of {whole / 1e9:.0f} GB" if used is not None and whole else "?"


def _json(
    scope: Scope,
    seen: Mapping[str, Observed | HostError],
    gateway: dict[str, Any] | None,
    wrong: ClusterAIError | None,
) -> dict[str, Any]:
    from cluster_ai.cli.render import error_json

    def host(name: str) -> dict[str, Any]:
        it = seen[name]
        if isinstance(it, HostError):
            return {"error": error_json(it)}
        units = {unit: state.active for unit, state in it.units.items()}
        return {"release": it.current, "previous": it.previous, "distribution": it.distribution, "units": units}

    hosts = [{"host": h.name, "address": h.address, "roles": sorted(h.roles), **host(h.name)} for h in scope.hosts]
    return {"format": 1, "hosts": hosts, "gateway": gateway, "error": error_json(wrong) if wrong else None}
