"""Plans, reports and states as people read them: colour and boxes on a terminal, plain lines elsewhere; and as JSON."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cluster_ai.errors import ClusterAIError
from cluster_ai.rollout.changes import changes, listed, sentence
from cluster_ai.rollout.outages import outages
from cluster_ai.sizes import counted

if TYPE_CHECKING:
    from cluster_ai.rollout.plan import FileChange, HostPlan, Plan
    from cluster_ai.rollout.waves import Kind

FEW = 8  # changed files of one folder that are named one by one
KINDS: Mapping[Kind, str] = {
    "head": "the head",
    "first": "hosts that are new",
    "canary": "canary",
    "rolling": "workers",
    "green": "green half",
    "blue": "blue half",
}


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:g} s"


def short(digest: str | None) -> str:
    return digest[:12] if digest else "none"


def lines(host: HostPlan) -> Iterator[tuple[str, str]]:
    """What changes on a host: heading, text."""
    if host.host_layer:
        yield "host layer", host.host_layer
    if host.release_from != host.release_to:
        yield "release", f"{short(host.release_from)} -> {short(host.release_to)}"
    if host.credentials:
        yield "credentials", host.credentials
    if host.certificates:
        yield "certificate", host.certificates
    transfers = (*host.parts, *host.blobs)
    if transfers:
        yield "send", ", ".join(f"{it.name} ({size(it.size)})" for it in transfers)
    for text in _files(host.files):
        yield "files", text
    if host.drift:
        yield "repair", f"changed on the host: {', '.join(host.drift)}"
    together: dict[tuple[str, str], list[str]] = {}
    for change in host.units:
        together.setdefault((change.action, change.reason), []).append(change.unit)
    for (action, reason), units in together.items():
        yield action, f"{', '.join(units)}: {reason}"
    changed = [f"+{name}" for name in host.models_added] + [f"-{name}" for name in host.models_removed]
    if changed:
        yield "models", ", ".join(changed)
    for note in host.notes:
        yield "note", note


def _files(files: Sequence[FileChange]) -> Iterator[str]:
    folders = Counter(file.path.partition("/")[0] for file in files)
    for folder, count in folders.items():
        mine = [file for file in files if file.path.partition("/")[0] == folder]
        if count <= FEW:
            yield from (f"{file.path} {file.kind}" for file in mine)
        else:
            kinds = Counter(file.kind for file in mine)
            yield f"{folder}/: " + ", ".join(f"{number} {kind}" for kind, number in kinds.items())


def summary(plan: Plan) -> str:
    changing = [host for host in plan.hosts if host.changes]
    if not plan.hosts:
        return "No host could be asked."
    if not changing:
        return (
            f"Nothing to do: {counted(len(plan.hosts), 'host')} as {plan.cluster}'s configuration says{_unknown(plan)}."
        )
    transfer = sum(it.size for host in changing for it in (*host.parts, *host.blobs))
    sent = f", {size(transfer)} to send" if transfer else ""
    return f"{len(changing)} of {counted(len(plan.hosts), 'host')} would change{sent}{_unknown(plan)}."


def _unknown(plan: Plan) -> str:
    unknown = f"; {counted(len(plan.errors), 'host')} could not be asked" if plan.errors else ""
    left = f"; {', '.join(plan.asleep)} on standby, left as is: apply again while awake" if plan.asleep else ""
    return unknown + left


@dataclass(frozen=True, slots=True)
class Alike:
    """Hosts on which the same changes, as far as it is shown."""

    hosts: tuple[HostPlan, ...]

    @property
    def title(self) -> str:
        first = self.hosts[0]
        roles = ", ".join(first.roles)
        if len(self.hosts) == 1:
            return f"{first.host} ({roles}, {first.address})"
        return f"{listed([host.host for host in self.hosts])} ({roles}; {len(self.hosts)} alike)"

    @property
    def lines(self) -> list[tuple[str, str]]:
        several = len(self.hosts) > 1
        return [
            (heading, "another one on each" if several and heading == "release" else what)
            for heading, what in lines(self.hosts[0])
        ]

    @property
    def diffs(self) -> list[str]:
        return [file.diff for file in self.hosts[0].files if file.diff]


def alike(plan: Plan) -> list[Alike]:
    """Hosts that change, together where they change in the same way: of 200 workers nobody reads 200 times the same."""
    found: dict[object, list[HostPlan]] = {}
    for host in plan.hosts:
        if host.changes:
            shown = tuple(line for line in lines(host) if line[0] != "release")
            key = (host.roles, host.release_from is None, shown, tuple(file.diff for file in host.files))
            found.setdefault(key, []).append(host)
    return [Alike(tuple(hosts)) for hosts in found.values()]


def schedule(plan: Plan) -> list[tuple[str, str, list[str]]]:
    """What happens when: heading, hosts and what they are, sentences on what is unavailable and what is waited for.

    Waves that follow each other and differ in their hosts alone are told as one.
    """
    found: list[tuple[str, str, list[str]]] = []
    if converging := [host.host for host in plan.hosts if host.host_layer]:
        found.append(("first", f"Ansible on {listed(converging)}", []))
    numbered = enumerate(zip(plan.waves, outages(plan), strict=True), 1)
    for (kind, pause, bake, missing), same in itertools.groupby(
        numbered, key=lambda it: (it[1][0].kind, it[1][0].pause, it[1][0].bake, it[1][1])
    ):
        numbers, waves = zip(*((number, wave) for number, (wave, _) in same), strict=True)
        several = len(waves) > 1
        notes = list(missing)
        if bake:
            notes.append(f"then {duration(bake)} of traffic are compared with that of the others")
        if pause:
            notes.append(f"then a pause of {duration(pause)}{', each time' if several else ''}")
        most = max(len(wave.hosts) for wave in waves)
        hosts = [host for wave in waves for host in wave.hosts]
        heading = f"waves {numbers[0]}-{numbers[-1]}" if several else f"wave {numbers[0]}"
        at_once = f", {'one' if most == 1 else most} at a time" if several else ""
        found.append((heading, f"{KINDS[kind]}{at_once}: {listed(hosts)}", notes))
    return found


def print_plan(plan: Plan) -> None:
    """On standard output; hosts that could not be asked are told by the caller, as errors."""
    if plan.changes:
        print("What changes")
        for change in changes(plan.hosts):
            print(f"  {sentence(change)}")
        print("\nHost by host")
        _print_hosts(plan)
        print("\nWhen, and what is unavailable meanwhile")
        for heading, what, notes in schedule(plan):
            print(f"  {heading:<14}{what}")
            for note in notes:
                print(f"  {'':<14}- {note}")
        print()
    print(summary(plan))


def _print_hosts(plan: Plan) -> None:
    if sys.stdout.isatty():
        _print_table(alike(plan))
        return
    for group in alike(plan):
        print(f"  {group.title}")
        for heading, what in group.lines:
            print(f"    {heading:<12}{what}")
        for diff in group.diffs:
            print("".join(f"      {line}\n" for line in diff.splitlines()), end="")


def _print_table(groups: Sequence[Alike]) -> None:
    from rich.console import Console, Group
    from rich.syntax import Syntax
    from rich.table import Table
    from rich.text import Text

    table = Table("Host", "What changes", show_lines=True)
    for group in groups:
        inner = Table.grid(padding=(0, 1))
        for heading, what in group.lines:
            inner.add_row(Text(heading, style="cyan"), Text(what))
        shown = [Syntax(diff, "diff", background_color="default", word_wrap=True) for diff in group.diffs]
        table.add_row(Text(group.title.replace(" (", "\n(")), Group(inner, *shown))
    Console().print(table)


def plan_json(plan: Plan) -> dict[str, Any]:
    """The schema of `plan --json`, in docs/cli.md."""
    meanwhile = outages(plan)
    return {
        "format": 1,
        "cluster": plan.cluster,
        "changes": plan.changes,
        "summary": [{**asdict(change), "text": sentence(change)} for change in changes(plan.hosts)],
        "hosts": [{**asdict(host), "changes": host.changes} for host in plan.hosts],
        "waves": [
            {**wave.as_dict(), "models_missed": plan.unavailable.get(index, ()), "unavailable": meanwhile[index]}
            for index, wave in enumerate(plan.waves)
        ],
        "errors": [error_json(error) for error in plan.errors],
        "asleep": list(plan.asleep),
    }


def error_json(error: ClusterAIError) -> dict[str, str]:
    return {"where": error.where, "what": error.what, "remedy": error.remedy}


def print_error(error: ClusterAIError) -> None:
    """In the same words as main does, for errors beside which a command goes on."""
    print(error, file=sys.stderr)
