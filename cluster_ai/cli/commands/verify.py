"""`cluster-ai verify`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer

from cluster_ai.cli.session import AskPassword, Json, Limit, names, say, sudo_password
from cluster_ai.errors import ExitCode, HostError

if TYPE_CHECKING:
    from cluster_ai.provision.refusals import Reply
    from cluster_ai.rollout.observe import Observed

TIMEOUT = 300.0  # seconds; every file of a release is read


def command(
    ctx: typer.Context,
    limit: Limit = None,
    as_json: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Look for what was changed on the hosts by others: files of the release (all are read), units, ports, packages.

    Each host notes what it found, for `apply`, which puts it right, and for the dashboard.

    Exit code 0: hosts are what cluster.yaml says. 2: something differs. 3: a host can't be asked.
    """
    config = ctx.obj.config()
    from cluster_ai import layout
    from cluster_ai.provision.refusals import Reply
    from cluster_ai.provision.ssh import Batch, Call
    from cluster_ai.rollout import observe
    from cluster_ai.rollout.scope import Scope

    scope = Scope(config, names(limit), sudo_password(ask_sudo_password))
    current = layout.CURRENT
    agent = (
        str(current / "bin/launch"),
        "python3",
        "-m",
        "cluster_ai.host",
        "verify",
        "--json",
        str(current / "etc/host.json"),
    )
    script = f"{observe.SCRIPT}\nexec {shlex.join(agent)}"
    calls = [Call(host, argv, script) for host, argv in scope.argv().items()]
    batch = Batch(calls, sudo_password=scope.sudo_password, timeout=TIMEOUT).start()
    from cluster_ai.placement.place import place
    from cluster_ai.rollout import survey

    placement = place(config)
    replies = batch.results()
    seen: dict[str, Observed | HostError] = {}
    for host in scope.hosts:
        reply = replies[host.name]
        try:
            seen[host.name] = observe.parse(host.name, reply.text) if isinstance(reply, Reply) else reply
        except HostError as error:
            seen[host.name] = error
    plan = survey.take(scope, placement, seen).plan
    found = {it.host: drift(replies[it.host], it.release_from, it.release_to, it.host_layer) for it in plan.hosts}
    _print(found, plan.errors, as_json)
    if plan.errors:
        raise typer.Exit(ExitCode.HOST)
    if any(found.values()):
        raise typer.Exit(ExitCode.CHANGES)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that isn't as cluster.yaml says, and whether `apply` puts it right."""

    kind: str  # release, host layer, agent; and what the agent has: files, units, overrides, ports, ...
    what: str
    how: str
    repair: Literal["apply", "hand"] = "apply"

    def __str__(self) -> str:
        by_hand = " (by hand)" if self.repair == "hand" else ""
        return f"{self.kind}: {self.what}: {self.how}{by_hand}"


def drift(reply: Reply | HostError, running: str | None, wanted: str, host_layer: str) -> list[Difference]:
    """What differs on a host: by the plan, and by what its own agent found."""
    different = [Difference("host layer", "stamp", host_layer)] if host_layer else []
    if running is None:
        return [*different, Difference("release", "current", "there is none")]
    if running != wanted:
        different.append(Difference("release", "current", f"is {running[:12]}, should be {wanted[:12]}"))
    if isinstance(reply, HostError):
        return different
    try:
        said: dict[str, Any] = json.loads(reply.text.strip().splitlines()[-1])
        found = [
            Difference(it["kind"], it["what"], it["how"], "hand" if it["repair"] == "hand" else "apply")
            for it in said["faults"]
        ]
    except (ValueError, KeyError, IndexError, TypeError):
        last = (reply.stderr.strip().splitlines() or [f"exit code {reply.returncode}"])[-1]
        found = [Difference("agent", "verify", f"the release's own agent fails: {last}")]
    return [*different, *found]


def _print(found: Mapping[str, Sequence[Difference]], errors: tuple[HostError, ...], as_json: bool) -> None:
    if as_json:
        from cluster_ai.cli.render import error_json

        hosts = [{"host": host, "drift": [asdict(it) for it in different]} for host, different in found.items()]
        print(json.dumps({"format": 1, "hosts": hosts, "errors": [error_json(error) for error in errors]}, indent=2))
        return
    for host, different in found.items():
        if not different:
            print(f"{host}: as cluster.yaml says")
        for it in different:
            print(f"{host}: {it}")
    everything = [it for different in found.values() for it in different]
    if any(it.repair == "apply" for it in everything):
        print("cluster-ai apply makes it so again.")
    if any(it.repair == "hand" for it in everything):
        print("What is marked (by hand) is not the cluster's to end: stop that program there, or give it another port.")
    for error in errors:
        say(error)
