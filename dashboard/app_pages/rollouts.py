"""What rollouts did and do: waves, the verdict on canaries with its charts, each step; and how to take one back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from dashboard import rollouts, units, view
from dashboard.live import REFRESH, Reading, Sources
from dashboard.rollouts import Brief, Rollout, Verdict

_AROUND = 900.0  # seconds before and after a rollout that its charts show
_STATES: Mapping[str, tuple[str, str, str]] = {  # state -> colour, sign, what it means
    "running": ("blue", "progress_activity", "It goes on."),
    "done": ("green", "check_circle", "Every host is done."),
    "failed": ("red", "error", "A step failed, and not everything could be put back."),
    "returned": ("orange", "undo", "A step failed; what was switched runs again what it ran before."),
    "paused": ("orange", "pause_circle", "It waits for a person: resume it, or undo it."),
    "interrupted": ("red", "power_off", "Its controller went away in the midst of it: resume it, or undo it."),
    "undone": ("gray", "undo", "A person took it back."),
}
_HOSTS = {
    "waits": ("gray", "schedule"),
    "goes on": ("blue", "progress_activity"),
    "done": ("green", "check_circle"),
    "failed": ("red", "error"),
    "returned": ("orange", "undo"),
}
_RESULTS = {"pass": "● pass", "fail": "✕ fail", "inconclusive": "◐ can't tell"}
_WHERE = (
    "Rollouts are planned, begun, resumed and taken back on a controller, where the SSH keys and the vault are; no web "
    "page has them. What this page shows comes from the records that controllers leave on the head host."
)


def draw(sources: Sources) -> None:
    st.title("Rollouts", anchor=False)
    st.caption(_WHERE)
    _now(sources)


@st.fragment(run_every=REFRESH)
def _now(sources: Sources) -> None:
    reading = view.told(sources, rollouts.listed)
    found = reading.value or ()
    if not found:
        if reading.problem is None:
            view.empty(
                "This cluster has had no rollout.",
                "`cluster-ai plan` shows what one would do, `cluster-ai apply` begins it; it then shows here as it "
                "goes on. A cluster that `cluster-ai up` started has none: it is one machine.",
            )
        return
    briefs = {it.id: it for it in found}
    name = str(st.selectbox("Rollout", list(briefs), format_func=lambda it: _line(briefs[it]), key="rollout"))
    one = view.told(sources, rollouts.read, name)
    if one.value is not None:
        _rollout(sources, one)


def _line(brief: Brief) -> str:
    return f"{view.moment(brief.started)} · {brief.state} · {brief.command} · {brief.who}"


def _rollout(sources: Sources, reading: Reading[Rollout]) -> None:
    rollout = reading.value
    assert rollout is not None
    _state(rollout.brief)
    _waves(rollout)
    verdicts = rollout.verdicts()
    for verdict in verdicts:
        _verdict(verdict)
    if any(wave.bake for wave in rollout.waves):
        _charts(sources, rollout)
    with st.expander("Each step", expanded=rollout.brief.state in ("running", "failed", "paused")):
        _steps(rollout)
    with st.expander("Releases"):
        _releases(rollout)
    _orders(rollout.brief)


def _state(brief: Brief) -> None:
    colour, sign, meaning = _STATES.get(brief.state, ("gray", "help", ""))
    ended = brief.ended or time.time()
    took = units.duration(ended - brief.started)
    said = f"**{brief.state.capitalize()}.** {brief.reason[:1].upper()}{brief.reason[1:] or meaning}"
    show = {"green": st.success, "red": st.error, "orange": st.warning}.get(colour, st.info)
    show(said, icon=f":material/{sign}:")
    st.caption(
        f"`{brief.command}` by {brief.who}, {brief.strategy}; began {view.moment(brief.started)}, "
        f"{'took' if brief.ended else 'for'} {took}."
    )


def _waves(rollout: Rollout) -> None:
    with view.card("Waves", "hosts that are switched together, one wave after the other"):
        for number, wave in enumerate(rollout.waves, 1):
            tiles = []
            for host in wave.hosts:
                standing = rollout.standing(host)
                colour, sign = _HOSTS[standing]
                tiles.append(f":{colour}-badge[:material/{sign}: {host} {standing}]")
            judged = f", then judged for {units.duration(wave.bake)}" if wave.bake else ""
            paused = f", then a pause of {units.duration(wave.pause)}" if wave.pause else ""
            st.markdown(f"**{number}** {wave.kind}{judged}{paused}: {' '.join(tiles)}")
        if not rollout.waves:
            st.caption("No release changes: the host layer alone.")


def _verdict(verdict: Verdict) -> None:
    show = {"pass": st.success, "fail": st.error}.get(verdict.result, st.warning)
    show(
        f"**The analysis of {', '.join(verdict.hosts)}**, {view.moment(verdict.at)}: {_RESULTS[verdict.result]}",
        icon=":material/balance:",
    )
    frame = pd.DataFrame(
        {
            "Worker": [c.worker for c in verdict.checks],
            "Number": [c.name for c in verdict.checks],
            "Result": [_RESULTS.get(c.result, c.result) for c in verdict.checks],
            "Measured": [c.canary for c in verdict.checks],
            "Expected": [c.baseline for c in verdict.checks],
            "Why": [c.sentence for c in verdict.checks],
        }
    )
    config = {
        "Measured": st.column_config.NumberColumn(format="%.3f"),
        "Expected": st.column_config.NumberColumn(
            format="%.3f", help="From its own past, times what happened to the others meanwhile."
        ),
        "Why": st.column_config.TextColumn(width="large"),
    }
    view.table(frame, list(frame.columns), config, key=f"verdict-{verdict.at}")


def _charts(sources: Sources, rollout: Rollout) -> None:
    """The judged workers against all others, around the time of the rollout."""
    judged = tuple(host for wave in rollout.waves if wave.bake for host in wave.hosts)
    end = min((rollout.brief.ended or time.time()) + _AROUND, time.time())
    reading = sources.canary(rollout.brief.started - _AROUND, end, judged)
    view.stale(reading)
    if reading.value is None:
        return
    nothing = "No requests in this time."
    charts: Sequence[tuple[str, str, str, view.Unit]] = (
        ("errors", "Errors", "share of the requests", "small_share"),
        ("response", "Time to a whole answer", "seconds, mean", "seconds"),
        ("first_token", "Time to the first token", "seconds, mean", "seconds"),
        ("speed", "Speed", "tokens per second of an answer", "per_second"),
    )
    left, right = st.columns(2)
    for number, (key, title, label, unit) in enumerate(charts):
        with (left, right)[number % 2]:
            view.chart(title, label, reading.value[key], unit, key=f"canary-{key}", nothing=nothing)


def _steps(rollout: Rollout) -> None:
    steps = sorted(rollout.steps, key=lambda step: step.at, reverse=True)
    frame = pd.DataFrame(
        {
            "At": [datetime.fromtimestamp(s.at, UTC) for s in steps],
            "Host": [s.host or None for s in steps],
            "Step": [s.step for s in steps],
            "Status": [s.status for s in steps],
            "Detail": [("see the verdict" if s.step == "analysis" else s.detail) or None for s in steps],
        }
    )
    config = {
        "At": st.column_config.DatetimeColumn(format="D MMM, HH:mm:ss"),
        "Detail": st.column_config.TextColumn(width="large"),
    }
    view.table(frame, list(frame.columns), config, key="steps")


def _releases(rollout: Rollout) -> None:
    frame = pd.DataFrame(
        {
            "Host": list(rollout.changes),
            "It ran": [_short(before) for before, _ in rollout.changes.values()],
            "It is to run": [_short(wanted) for _, wanted in rollout.changes.values()],
            "Now": [rollout.standing(host) for host in rollout.changes],
        }
    )
    view.table(frame, list(frame.columns), {}, key="releases")


def _short(release: str | None) -> str:
    return release[:12] if release else "none yet"


def _orders(brief: Brief) -> None:
    """What may be done about it, to be copied to the controller's command line."""
    orders: Sequence[tuple[str, str]] = [("To take it back, on a controller:", f"cluster-ai rollouts undo {brief.id}")]
    if brief.state in ("paused", "interrupted"):
        orders = [("To go on with it, on a controller:", f"cluster-ai rollouts resume {brief.id}"), *orders]
    if brief.state == "running":
        orders = [("To follow it on a controller:", f"cluster-ai rollouts show {brief.id}")]
    if brief.state in ("undone", "returned"):
        orders = []
    for column, (what, command) in zip(st.columns(max(1, len(orders))), orders, strict=False):
        with column:
            st.caption(what)
            st.code(command, language="bash")
