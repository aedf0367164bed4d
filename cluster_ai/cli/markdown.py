"""A plan as Markdown: a comment on a merge or pull request, as GitHub and GitLab show it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster_ai.cli.render import Alike, alike, schedule, summary
from cluster_ai.rollout.changes import changes, sentence
from cluster_ai.rollout.plan import Plan
from cluster_ai.sizes import counted

MOST = 60_000  # characters; GitHub takes 65,536


def comment(plan: Plan) -> str:
    """Begins with a line that nobody sees, by which CI finds the comment again to update it: docs/ci.md."""
    head = [
        f"<!-- cluster-ai plan: {plan.cluster} -->",
        f"### Plan for {escaped(plan.cluster)}",
        "",
        escaped(summary(plan)),
    ]
    if plan.errors:
        head += ["", "Hosts that could not be asked:", ""]
        head += [f"- **{escaped(error.where)}**: {escaped(error.what)}" for error in plan.errors]
    if plan.changes:
        head += ["", *(f"- {escaped(sentence(change))}" for change in changes(plan.hosts))]
        head += ["", "**When, and what is unavailable meanwhile**", ""]
        for heading, what, notes in schedule(plan):
            head += [f"- {heading}: {escaped(what)}", *(f"  - {escaped(note)}" for note in notes)]
    text = "\n".join(head) + "\n"
    left_out = 0
    for group in alike(plan):
        block = "\n" + "\n".join(_details(group)) + "\n"
        if len(text) + len(block) > MOST:
            left_out += len(group.hosts)
        else:
            text += block
    return text[:MOST] + (f"\nNot shown for want of room: {counted(left_out, 'host')}.\n" if left_out else "")


def escaped(text: str) -> str:
    """As plain text: names come from cluster.yaml."""
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;").replace("@", "@\u200b")


def _details(group: Alike) -> Iterator[str]:
    yield f"<details><summary>{escaped(group.title)}</summary>"
    yield ""
    yield from (f"- {heading}: {escaped(what)}" for heading, what in group.lines)
    for diff in group.diffs:
        fence = "`" * (1 + max([2, *(len(run) for run in re.findall("`+", diff))]))
        yield from ("", f"{fence}diff", diff, fence)
    yield ""
    yield "</details>"
