"""`cluster-ai discover`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_ai.cli.session import AskPassword, Json, sudo_password
from cluster_ai.errors import ExitCode
from cluster_ai.sizes import counted

if TYPE_CHECKING:
    from cluster_ai.config.model import Config
    from cluster_ai.discovery.flow import Flow, Judged
    from cluster_ai.discovery.networks import Network
    from cluster_ai.discovery.search import Search
    from cluster_ai.discovery.validate import Checked
    from cluster_ai.rollout.doctor import Finding

TOKENS = 64  # that each model generates on a new worker, three times


def command(
    ctx: typer.Context,
    network: Annotated[
        list[str] | None,
        typer.Option("--network", metavar="CIDR", help="Look there only; else in every private network that is here."),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=3600, help="How long to listen.")] = 5.0,
    add: Annotated[bool, typer.Option("--add", help="Put machines that can be workers into cluster.yaml.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="And go on with apply, until they are active.")] = False,
    accept_key: Annotated[
        list[str] | None,
        typer.Option("--accept-key", metavar="SHA256:...", help="A host key that you have compared."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Don't ask: take those whose host key is vouched for, and no others.")
    ] = False,
    as_json: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Find machines on the network, check by SSH whether they can be workers, and add them to the cluster.

    They are looked for by our beacon, mDNS, SSDP and a scan for SSH servers. A host key is believed when known_hosts
    has it, a join token proves it, --accept-key names it, or you say so when asked. docs/discovery.md has it all.

    Exit code 0: done. 3: a machine that was to be added can't be, or apply found a host that can't be reached.
    """
    if apply and not add:
        raise typer.BadParameter("--apply goes on from --add: say both")
    if apply and as_json:
        raise typer.BadParameter("--json tells of a search; then: cluster-ai apply --json")
    ask = not yes and not as_json and sys.stdin.isatty()
    if add and not yes and not ask:
        raise typer.BadParameter("there is no terminal to ask on: say --yes, with --accept-key for new host keys")
    password = sudo_password(ask_sudo_password)
    from cluster_ai.discovery import networks
    from cluster_ai.discovery.flow import Flow

    wanted = networks.parse(network or ())
    _confirm_public(networks.public(wanted), yes)
    flow = Flow(ctx.obj.config())
    search = _search(flow, wanted, seconds)
    judged = flow.judged(search.identified())
    chosen = _chosen(judged, accept_key or (), ask=ask and add)
    if add:
        _take_back_replaced(flow, judged, ask)
    joining = [it.machine for it in chosen if it.trust.standing == "token"]
    wrong = flow.let_in(joining) if add and joining else {}
    checked = _checked(flow.config, chosen, wrong, add, password)
    fit = [it for it in checked.values() if it.fit]
    added: list[Checked] = []
    if add and fit and (not ask or typer.confirm(f"Add {', '.join(it.name for it in fit)}?")):
        flow.pin([it.machine for it in fit])
        backup = flow.add(fit)
        added = fit
        print(f"{flow.config.path} is written; as it was: {backup.name}", file=sys.stderr)
    _tell(judged, checked, wrong, added, search, as_json, add)
    if apply and added:
        _apply(ctx, flow, added, yes, ask_sudo_password)
    if add and (wrong or any(not it.fit for it in checked.values())):
        raise typer.Exit(ExitCode.HOST)


def _confirm_public(public: Sequence[Network], yes: bool) -> None:
    if not public or yes:
        return
    names = ", ".join(map(str, public))
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{names} is no private network: say --yes if it is yours to scan")
    typer.confirm(f"{names} is no private network. Is it yours to scan?", abort=True)


def _search(flow: Flow, wanted: Sequence[Network], seconds: float) -> Search:
    import asyncio

    from cluster_ai.cli.discovering import watching
    from cluster_ai.discovery import networks
    from cluster_ai.discovery.search import Search

    mine = networks.own()
    here = networks.chosen(mine, wanted)
    targets = networks.targets(here, wanted, [it.address for it in mine])
    search = Search(flow.config.ssh, here, wanted, targets, flow.secret)
    with watching(search.machines) as search.on_seen:
        asyncio.run(search.run(seconds))
    for note in search.notes:
        print(note, file=sys.stderr)
    return search


def _chosen(judged: Sequence[Judged], accepted: Sequence[str], *, ask: bool) -> list[Judged]:
    """Those that are checked: whose key is vouched for, or accepted now."""
    chosen = []
    for it in judged:
        key = it.machine.key
        if it.trust.vouched or (key and it.trust.standing == "new" and key.fingerprint in accepted):
            chosen.append(it)
        elif ask and key and it.trust.standing == "new":
            print(f"{it.machine.address} {it.machine.name} shows {key.kind} {key.fingerprint}")
            if typer.confirm("  Is that its key, and shall it be checked?"):
                chosen.append(it)
    return chosen


def _take_back_replaced(flow: Flow, judged: Sequence[Judged], ask: bool) -> None:
    """A host of the cluster with another key than is pinned is believed again only when a person says so."""
    for it in judged:
        if ask and it.trust.standing == "replaced":
            print(f"{it.machine.address} {it.trust.what}")
            if typer.confirm(f"  Was {it.trust.host} installed anew, and is this its key?"):
                flow.pin([it.machine])


def _checked(
    config: Config, chosen: Sequence[Judged], wrong: dict[str, Finding], add: bool, password: str | None
) -> dict[str, Checked]:
    """By address. What only announced itself by a token hasn't let us in yet."""
    from cluster_ai.discovery.validate import check

    ready = [it.machine for it in chosen if it.machine.address not in wrong and (add or it.trust.standing != "token")]
    if not ready:
        return {}
    print(f"asking {', '.join(machine.address for machine in ready)} ...", file=sys.stderr)
    return {it.machine.address: it for it in check(config, ready, sudo_password=password, measure=add)}


def _tell(
    judged: Sequence[Judged],
    checked: dict[str, Checked],
    wrong: dict[str, Finding],
    added: Sequence[Checked],
    search: Search,
    as_json: bool,
    add: bool,
) -> None:
    from cluster_ai.cli.discovering import as_data, show

    names = {it.machine.address: it.name for it in added}
    if as_json:
        import json

        rows = []
        for it in judged:
            address = it.machine.address
            found = checked.get(address)
            outcome = "added" if address in names else "fit" if found and found.fit else "unfit" if found else "seen"
            rows.append(as_data(it, found, wrong.get(address), outcome))
        print(json.dumps({"format": 1, "machines": rows, "notes": search.notes}, indent=2))
        return
    for it in judged:
        address = it.machine.address
        show(it, checked.get(address), wrong.get(address))
        if address in names:
            print(f"  added as {names[address]}")
        elif add and address in checked:
            print("  not added")
    print(counted(len(judged), "machine") + (f", {len(names)} added" if add else ""))


def _apply(ctx: typer.Context, flow: Flow, added: Sequence[Checked], yes: bool, ask_sudo_password: bool) -> None:
    from cluster_ai.cli.commands import apply

    apply.command(ctx, yes=yes, ask_sudo_password=ask_sudo_password)
    from cluster_ai.cli.commands import bench
    from cluster_ai.placement.place import place

    placement = place(flow.config)
    if serving := [it.name for it in added if placement.on(it.name)]:
        bench.command(ctx, workers=serving, tokens=TOKENS, save=True, ask_sudo_password=ask_sudo_password)
