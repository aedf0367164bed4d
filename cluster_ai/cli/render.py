"""Plans, reports and states as people read them: colour and boxes on a terminal, plain lines elsewhere; and as JSON."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cluster_ai.errors import ClusterAIError

if TYPE_CHECKING:
    from cluster_ai.rollout.plan import FileChange, HostPlan, Plan

FEW = 8  # changed files of one folder that are named one by one


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


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
    transfers = (*host.parts, *host.blobs)
    if transfers:
        yield "send", ", ".join(f"{it.name} ({size(it.size)})" for it in transfers)
    for text in _files(host.files):
        yield "files", text
    if host.drift:
        yield "repair", f"changed on the host: {', '.join(host.drift)}"
    for change in host.units:
        yield change.action, f"{change.unit}: {change.reason}"
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
    if not changing:
        return f"Nothing to do: {_hosts(len(plan.hosts))} as {plan.cluster}'s configuration says."
    transfer = sum(it.size for host in changing for it in (*host.parts, *host.blobs))
    steps = [f"{len(changing)} of {_hosts(len(plan.hosts))} would change"]
    if transfer:
        steps.append(f"{size(transfer)} to send")
    if len(plan.waves) > 1:
        steps.append("Waves: " + "; ".join(", ".join(wave.hosts) for wave in plan.waves))
    return ". ".join(steps) + "."


def _hosts(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"


def print_plan(plan: Plan) -> None:
    """On standard output; hosts that could not be asked are told by the caller, as errors."""
    changing = [host for host in plan.hosts if host.changes]
    if changing and sys.stdout.isatty():
        _print_table(changing)
    else:
        for host in changing:
            print(f"{host.host} ({', '.join(host.roles)}, {host.address})")
            for heading, text in lines(host):
                print(f"  {heading:<12}{text}")
            for diff in diffs(host):
                print("".join(f"    {line}\n" for line in diff.splitlines()), end="")
    print(summary(plan))


def diffs(host: HostPlan) -> list[str]:
    return [file.diff for file in host.files if file.diff]


def _print_table(changing: Sequence[HostPlan]) -> None:
    from rich.console import Console, Group
    from rich.syntax import Syntax
    from rich.table import Table
    from rich.text import Text

    table = Table("Host", "What changes", show_lines=True, title="Plan", title_justify="left")
    for host in changing:
        inner = Table.grid(padding=(0, 1))
        for heading, text in lines(host):
            inner.add_row(Text(heading, style="cyan"), Text(text))
        shown = [Syntax(diff, "diff", background_color="default", word_wrap=True) for diff in diffs(host)]
        table.add_row(Text(f"{host.host}\n{', '.join(host.roles)}\n{host.address}"), Group(inner, *shown))
    Console().print(table)


def plan_json(plan: Plan) -> dict[str, Any]:
    """The schema of `plan --json`, in docs/cli.md."""
    return {
        "format": 1,
        "cluster": plan.cluster,
        "changes": plan.changes,
        "hosts": [{**asdict(host), "changes": host.changes} for host in plan.hosts],
        "waves": [wave.as_dict() for wave in plan.waves],
        "errors": [error_json(error) for error in plan.errors],
    }


def error_json(error: ClusterAIError) -> dict[str, str]:
    return {"where": error.where, "what": error.what, "remedy": error.remedy}


def print_error(error: ClusterAIError) -> None:
    """In the same words as main does, for errors beside which a command goes on."""
    print(error, file=sys.stderr)
