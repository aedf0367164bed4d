"""Every worker: is it up, how full is it, what does it do; and the hosts beneath. Drain and resume."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import acting, queries, units, view
from dashboard.hosts import Host
from dashboard.live import REFRESH, Sources
from dashboard.served import Card, Served, WorkerState

CHARTED = 8  # more lines than this can't be told apart by colour
_ORDER = "/api/v1/cluster/workers/{}/"
_SIGNS = {"active": "●", "down": "○", "asleep": "◌"}  # of states; of all others a half one


def draw(sources: Sources) -> None:
    seconds, slot = view.heading("Workers")
    _now(sources, seconds, slot)


@st.fragment(run_every=REFRESH)
def _now(sources: Sources, seconds: int, slot: DeltaGenerator) -> None:
    reading = sources.workers(seconds)
    served = view.begin(sources, reading, slot)
    now = reading.value
    states = served.value.workers if served.value else ()
    measured = now.workers if now else ()
    if not states and not measured:
        if reading.problem is None and served.problem is None:
            remedy = "It does within a minute of its start; `cluster-ai status` says what does not run."
            view.empty("No worker has shown itself yet.", remedy)
        return
    _table(states, measured)
    _steer(sources, served.value)
    if now is None:
        return
    if now.workers:
        _charts(sources, seconds, now)
    if now.hosts:
        st.subheader("Hosts", anchor=False)
        _hosts(now.hosts)


def _table(states: Sequence[WorkerState], measured: Sequence[queries.Worker]) -> None:
    told = {s.name: s for s in states}
    numbers = {w.name: w for w in measured}
    rows = []
    for name in sorted({*told, *numbers}, key=lambda it: (_rank(told.get(it), numbers.get(it)), it)):
        state, w = told.get(name), numbers.get(name)
        cards = state.cards if state else ()
        usage = [card.usage for card in cards if card.usage is not None]
        rows.append(
            {
                "Worker": name,
                "State": _state(state, w),
                "CPU": 100 * w.cpu if w and w.cpu is not None else None,
                "Memory": units.of_gib(w.memory, w.memory_total) if w else None,
                "GPU": 100 * sum(usage) / len(usage) if usage else None,
                "VRAM": _card_memory(cards, w),
                "Heat": max((c.temperature for c in cards if c.temperature is not None), default=None),
                "Busy": f"{state.in_flight} of {state.slots}" if state and state.slots and state.answers else None,
                "Tokens": w.tokens if w else None,
                "Loaded": ", ".join(w.loaded) if w and w.loaded else None,
                "Power": sum(c.power for c in cards if c.power is not None) or None,
                "Engine": state.engine if state else None,
                "Release": state.release[:8] if state and state.release else None,
            }
        )
    reasons = any(_why(state) for state in states)
    asleep = "Asleep: a standby host, which is woken when it is needed."
    config = {
        "State": st.column_config.TextColumn(width="medium" if reasons else None, help=asleep),
        "CPU": _bar("CPU", "Share of all cores in use."),
        "Memory": st.column_config.TextColumn("Memory used", help="Of the host, by everything on it."),
        "GPU": _bar("GPU", "Share of time in which its cards were busy, on average."),
        "VRAM": st.column_config.TextColumn("GPU memory used", help="All its cards together."),
        "Heat": st.column_config.NumberColumn("GPU heat", format="%.0f °C", help="Of its hottest card."),
        "Busy": st.column_config.TextColumn(
            "In flight", help="Requests that it answers now, of those that it can answer at once."
        ),
        "Tokens": st.column_config.NumberColumn("Tokens/s", format="%.1f", help="Over the last minute."),
        "Loaded": st.column_config.TextColumn("Models in memory"),
        "Power": st.column_config.NumberColumn("GPU power", format="%.0f W", help="All its cards together."),
        "Release": st.column_config.TextColumn("Release", help="What its host runs, by the beginning of its digest."),
        "Engine": st.column_config.TextColumn("Ollama", help="The engine's version."),
    }
    frame = pd.DataFrame(rows)
    shown = [c for c in frame.columns if c in ("Worker", "State") or frame[c].notna().any()]
    view.table(frame, shown, config, key="workers")


def _card_memory(cards: Sequence[Card], measured: queries.Worker | None) -> str | None:
    told = units.of_gib(measured.gpu_memory, measured.gpu_memory_total) if measured else None
    return told or ("shared with the host" if any(card.memory_total is None for card in cards) else None)


def _rank(told: WorkerState | None, measured: queries.Worker | None) -> int:
    """What isn't well is at the top; what sleeps, and is well so, at the end."""
    if told is None:
        return int(bool(measured and measured.up))
    return {"active": 1, "asleep": 2}.get(told.state, 0)


def _state(told: WorkerState | None, measured: queries.Worker | None) -> str:
    """The gateway's word where it is there, else what Prometheus saw last."""
    if told is None:
        return "● up" if measured and measured.up else "○ down"
    why = _why(told)
    return f"{_SIGNS.get(told.state, '◐')} {told.state}" + (f": {why}" if why else "")


def _why(told: WorkerState) -> str | None:
    """Why it isn't active, where that isn't told elsewhere: a cordon is, beside the button that ends it."""
    return told.reason if told.cordon is None and told.state != "asleep" else None


def _steer(sources: Sources, served: Served | None) -> None:
    """Those that get nothing new, each with a button that ends it; then the choice of another."""
    if served is None or not acting.may(served, "steer workers", "drain a worker"):
        return
    for worker in served.workers:
        if worker.cordon is not None and worker.state != "asleep":  # which lifts it itself when it is woken
            _cordoned(sources, worker)
    with st.popover("Drain a worker", icon=":material/pause_circle:"):
        free = [w.name for w in served.workers if w.cordon is None]
        if not free:
            st.caption("Every worker is drained already.")
            return
        name = st.selectbox("Worker", free, key="drained")
        reason = st.text_input("Why", key="drain_reason", placeholder="new fans", max_chars=200)
        st.caption("It finishes what it has and gets nothing new, until you resume it. What it holds in Dask moves on.")
        if len([w for w in served.workers if w.state == "active" and w.name != name]) == 0:
            st.warning("No other worker is active: nobody will answer.", icon=":material/warning:")
        if st.button("Drain", type="primary", key="drain", icon=":material/pause_circle:"):
            acting.order(sources, f"{name} gets nothing new.", "POST", _ORDER + "drain", {"reason": reason}, name)


def _cordoned(sources: Sources, worker: WorkerState) -> None:
    cordon = worker.cordon
    assert cordon is not None
    left = [
        units.counted(number, one)
        for number, one in ((worker.in_flight, "request"), (cordon.tasks, "Dask task"), (cordon.results, "result"))
        if number
    ]
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        why = f" ({cordon.reason})" if cordon.reason else ""
        rest = f"it still has {' and '.join(left)}" if left else "it is empty"
        st.markdown(f":material/pause_circle: **{worker.name}** gets nothing new{why}: {rest}.", width="stretch")
        if st.button("Resume", key=f"resume-{worker.name}", icon=":material/play_circle:"):
            done = f"{worker.name} gets requests again."
            acting.order(sources, done, "POST", _ORDER + "resume", None, worker.name)


def _percent(used: float | None, total: float | None) -> float | None:
    return 100 * used / total if used is not None and total else None


def _bar(title: str, meaning: str | None = None) -> Any:
    return st.column_config.ProgressColumn(title, min_value=0, max_value=100, format="%.0f %%", help=meaning)


def _charts(sources: Sources, seconds: int, now: queries.Workers) -> None:
    names = [w.name for w in now.workers]
    if len(names) > CHARTED:
        chosen = st.multiselect(
            "Workers in the charts", names, default=names[:CHARTED], max_selections=CHARTED, key="charted"
        )
    else:
        chosen = names

    charts = sources.charts_of_workers(seconds, chosen).value  # why there are none is told at the top
    if charts is None:
        return

    def of(key: str, scale: float = 1.0) -> pd.DataFrame:
        frame = charts[key]
        worker = frame["series"].str.split(" card ").str[0]
        return frame[worker.isin(chosen)].assign(value=lambda f: f["value"] / scale)

    none = "No values in this time."
    left, right = st.columns(2)
    with left:
        view.chart("CPU", "share of all cores", of("cpu"), "share", key="cpu", nothing=none)
        view.chart("Tasks", "requests and Dask tasks in work, mean", of("tasks"), "count", key="w_tasks", nothing=none)
    with right:
        view.chart("Memory used", "GiB", of("memory", units.GIB), "gib", key="memory", nothing=none)
        view.chart(
            "Tokens", "per second", of("tokens"), "per_second", key="w_tokens", nothing="No tokens in this time."
        )
    memory, heat = of("gpu_memory", units.GIB), of("heat")
    left, right = st.columns(2)
    with left:
        if not memory.empty:
            view.chart("GPU memory used", "GiB", memory, "gib", key="gpu_memory", nothing=none)
    with right:
        if not heat.empty:
            view.chart("GPU heat", "degrees Celsius", heat, "count", key="heat", nothing=none)


def _hosts(hosts: Sequence[Host]) -> None:
    now = time.time()
    rows = [
        {
            "Host": h.name,
            "CPU": 100 * h.cpu if h.cpu is not None else None,
            "Memory": _percent(h.memory_used, h.memory_total),
            "Memory of": units.of_gib(h.memory_used, h.memory_total),
            "Disk": 100 - (_percent(h.disk_free, h.disk_total) or 0) if h.disk_total else None,
            "Free": units.gib(h.disk_free),
            "Drift": h.drift_told(now),
        }
        for h in hosts
    ]
    config = {
        "CPU": _bar("CPU"),
        "Memory": _bar("Memory"),
        "Memory of": st.column_config.TextColumn("Memory used"),
        "Disk": _bar("Disk"),
        "Free": st.column_config.TextColumn("Disk free"),
        "Drift": st.column_config.TextColumn("Drift", help="What is not as the host's release says."),
    }
    frame = pd.DataFrame(rows)
    shown = [c for c in frame.columns if c != "Drift" or frame[c].notna().any()]
    view.table(frame, shown, config, key="hosts")
    if any(h.drift for h in hosts):
        st.caption("`cluster-ai verify` names each thing that differs; `cluster-ai apply` puts it right.")
