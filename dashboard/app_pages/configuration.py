"""cluster.yaml as it was applied, who changed what; and a draft of it, checked and compared as one writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from dashboard import acting, checking, rollouts, served, units, view
from dashboard import plan as planned
from dashboard.checking import Checked, Problem
from dashboard.live import Sources
from dashboard.rollouts import Brief

_MOST_PROBLEMS, _MOST_DETAILS = 20, 10  # that are told


def draw(sources: Sources) -> None:
    st.title("Configuration", anchor=False)
    known = view.told(sources, served.served).value
    if known is None or not acting.may(known, "see configuration", "see cluster.yaml"):
        return
    found = view.told(sources, rollouts.listed).value
    if found is None:
        return
    st.caption(
        "Every rollout leaves the cluster.yaml that it applied on the head host; no secret is in it. The cluster is "
        "changed where the SSH keys and the vault are: in the file on a controller, by `cluster-ai apply` there."
    )
    history = _changes(found)
    applied = _text(sources, history[0]) if history else ""
    if not history:
        remedy = "`cluster-ai apply` does; a cluster of `cluster-ai up` has none. A draft can be checked all the same."
        view.empty("No configuration has been rolled out.", remedy)
    draft, plan, past = st.tabs(["As applied, and a draft", "The last plan", "Who changed what"])
    with draft:
        _draft(applied, {model.name: model.memory for model in known.models if model.memory is not None})
    with plan:
        _plan(sources, applied, found[0].started if found else 0.0)
    with past:
        _history(sources, history)


def _changes(found: Sequence[Brief]) -> list[Brief]:
    """Of rollouts that follow each other with the same file, the first; the newest first."""
    kept = [it for it in found if it.configuration]
    return [
        it
        for place, it in enumerate(kept)
        if place + 1 == len(kept) or kept[place + 1].configuration != it.configuration
    ]


def _text(sources: Sources, brief: Brief) -> str:
    return view.told(sources, rollouts.configuration, brief.id).value or ""


def _draft(applied: str, needs: Mapping[str, int]) -> None:
    """needs: model -> bytes that a replica takes."""
    st.html("<style>.st-key-draft textarea { font-family: monospace; }</style>")
    text = st.text_area(
        "cluster.yaml",
        value=applied,
        height=420,
        key="draft",
        persist_state="session",
        help="Checked when you leave the field, or press Ctrl+Enter.",
        placeholder="Paste a cluster.yaml here, to have it checked.",
    )
    if not text.strip():
        return
    checked = checking.check(text, needs)
    wrong = checked.problems
    if wrong:
        told = "\n".join(line for it in wrong[:_MOST_PROBLEMS] for line in _lines(it))
        st.error(f"**{units.counted(len(wrong), 'problem')}**\n\n{told}", icon=":material/error:")
    else:
        _placement(checked)
    difference = checking.difference(applied, text) if applied else ""
    if applied and not difference:
        st.caption("This is what was applied last.")
        return
    if difference:
        st.markdown("**What you changed**")
        st.code(difference, language="diff")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Download", text, "cluster.yaml", "text/yaml", icon=":material/download:", disabled=bool(wrong)
        )
        st.caption("On a controller, beside its secrets: what it would do, then have it done.")
    st.code("cluster-ai validate && cluster-ai plan\ncluster-ai apply", language="bash")


def _lines(problem: Problem) -> list[str]:
    """As a list of Markdown."""
    more = len(problem.details) - _MOST_DETAILS
    details = [*problem.details[:_MOST_DETAILS], *([f"and {units.count(more)} more"] if more > 0 else [])]
    remedy = f" **{problem.remedy[:1].upper()}{problem.remedy[1:]}.**" if problem.remedy else ""
    return [f"- line {problem.line}: {problem.what}.{remedy}", *(f"    - {detail}" for detail in details)]


def _placement(checked: Checked) -> None:
    """Where the models would be."""
    if checked.unknown:
        names = ", ".join(f"**{name}**" for name in checked.unknown)
        st.warning(
            f"What {names} needs is in a file on the controller, so whether it fits is not known here: "
            "`cluster-ai validate` there knows. Nothing else is wrong, and all other models fit.",
            icon=":material/help:",
        )
    else:
        st.success("Nothing is wrong, and every model fits.", icon=":material/check_circle:")
    if not checked.placement:
        return
    with st.expander("Where the models would be"):
        frame = pd.DataFrame(
            {
                "Model": [it.model for it in checked.placement],
                "Worker": [it.worker for it in checked.placement],
                "Runs": ["on GPU" if it.processor == "gpu" else "in RAM" for it in checked.placement],
                "Memory": [units.gib(it.memory) for it in checked.placement],
            }
        )
        memory = st.column_config.TextColumn("Memory", help="Set aside for this replica.")
        view.table(frame, list(frame.columns), {"Memory": memory}, key="draft_placement")


def _plan(sources: Sources, applied: str, rolled_out: float) -> None:
    """rolled_out: when the last rollout began, seconds since 1970."""
    last = view.told(sources, planned.read).value
    if last is None:
        return
    plan = last.plan
    if plan is None:
        remedy = "`cluster-ai plan --publish` on a controller shows here what it finds."
        view.empty("Nobody has published a plan.", remedy)
        return
    of = f", of {', '.join(plan.limit)} alone" if plan.limit else ""
    st.caption(f"Made by {plan.who}, {view.moment(plan.made)}{of}.")
    if rolled_out > plan.made:
        st.warning(
            f"A rollout has begun since, {view.moment(rolled_out)}: what follows may be done already.",
            icon=":material/history:",
        )
    st.markdown("\n".join([f"**{plan.summary}**\n", *(f"- {change}" for change in plan.changes)]))
    if plan.unreachable:
        hosts = "\n".join(f"- {sentence}" for sentence in plan.unreachable)
        st.warning(
            f"**Could not be asked, so what would change there is not in it**\n\n{hosts}", icon=":material/cloud_off:"
        )
    if plan.waves:
        with view.card("When, and what is unavailable meanwhile"):
            told = [[f"- **{it.when}**: {it.hosts}", *(f"    - {note}" for note in it.meanwhile)] for it in plan.waves]
            st.markdown("\n".join(line for lines in told for line in lines))
    if plan.hosts:
        with st.expander("Host by host"):
            for hosts, changes in plan.hosts:
                st.markdown("\n".join([f"**{hosts}**\n", *(f"- {change}" for change in changes)]))
            if plan.left_out:
                st.caption(f"And {units.counted(plan.left_out, 'more host')}.")
    difference = checking.difference(applied, plan.text, ("applied", "planned")) if applied else ""
    if difference:
        with st.expander("cluster.yaml against what was applied"):
            st.code(difference, language="diff")


def _history(sources: Sources, history: Sequence[Brief]) -> None:
    if len(history) < 2:
        st.caption("There is nothing to compare before the second configuration is applied.")
        return
    for place, brief in enumerate(history[:-1]):
        before, after = _text(sources, history[place + 1]), _text(sources, brief)
        title = f"{view.moment(brief.started)} · {brief.who} · {brief.command} · {brief.state}"
        with st.expander(title, expanded=place == 0):
            names = view.moment(history[place + 1].started), view.moment(brief.started)
            difference = checking.difference(before, after, names) if before and after else ""
            st.code(difference or "Its text was not kept: a controller of an older version.", language="diff")
