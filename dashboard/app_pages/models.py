"""Every model: where it lives, how fast it answers; have one in memory, or out of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import acting, placement, queries, units, view
from dashboard.live import REFRESH, Sources
from dashboard.served import Served, ServedModel, WorkerState

EVERYWHERE = "wherever it is placed"
_UPRIGHT = 8  # names of workers that fit beside each other
_ORDER = "/api/v1/models/{}/"
# How each cell of the map shows: sign and colour, so that neither alone has to be told apart.
_CELLS = {
    "in memory": ("●", "#009E73"),
    "on disk": ("○", "#56B4E9"),
    "not to be had while its worker is drained": ("◐", "#B5478A"),
    "missing": ("✕", "#D55E00"),
}


def draw(sources: Sources) -> None:
    seconds, slot = view.heading("Models")
    _now(sources, seconds, slot)


@st.fragment(run_every=REFRESH)
def _now(sources: Sources, seconds: int, slot: DeltaGenerator) -> None:
    reading = sources.models(seconds)
    served = view.begin(sources, reading, slot)
    known = served.value.models if served.value else ()
    now = reading.value
    measured = now.models if now else ()
    if not known and not measured:
        if served.problem is None:
            view.empty(
                "This cluster has no model.", "Name one under `models` in cluster.yaml, then `cluster-ai apply`."
            )
        return
    _table(known, measured)
    if served.value is not None and known:
        _map(served.value)
        _memory(sources, served.value)
        _why(sources, served.value)
    if now is None:
        return
    idle = "No answers in this time. Send a prompt from the Playground."
    left, right = st.columns(2)
    with left:
        view.chart("Tokens", "per second", now.charts["tokens"], "per_second", key="m_tokens", nothing=idle)
        view.chart(
            "Time to the first token",
            "seconds, 95 % of the answers within",
            now.charts["first_token"],
            "seconds",
            key="first_token",
            nothing="No streamed answers in this time.",
        )
    with right:
        view.chart(
            "Time of inference",
            "seconds, 95 % of the answers within",
            now.charts["inference"],
            "seconds",
            key="inference",
            nothing=idle,
        )
        view.chart("Waiting", "requests, mean", now.charts["queue"], "count", key="queue", nothing="Nobody waited.")


def _table(served: tuple[ServedModel, ...], measured: tuple[queries.Model, ...]) -> None:
    places = {m.name: m for m in served}
    numbers = {m.name: m for m in measured}
    rows = []
    for name in sorted({*places, *numbers}):
        place, number = places.get(name), numbers.get(name)
        rows.append(
            {
                "Model": name,
                "Size": units.gib(place.size) if place and place.size else None,
                "Kind": " ".join(t for t in (place.parameters, place.quantization) if t) or None if place else None,
                "Context": place.context if place else None,
                "Ready": f"{len(place.present)} of {max(place.replicas, len(place.present))}" if place else None,
                "Wanted": number.wanted if number else None,
                "Requests": number.requests if number else None,
                "Tokens": number.tokens if number else None,
                "Generated": round(number.generated) if number and number.generated is not None else None,
                "First": number.first_token if number else None,
                "p50": number.p50 if number else None,
                "p95": number.p95 if number else None,
                "Load": number.load_time if number else None,
                "Hits": number.hits if number else None,
            }
        )
    config = {
        "Kind": st.column_config.TextColumn("Kind", help="Parameters and quantization."),
        "Context": st.column_config.NumberColumn("Context", format="localized", help="Tokens of prompt and answer."),
        "Ready": st.column_config.TextColumn(
            "Ready", help="Workers that can answer with it, of those it is placed on."
        ),
        "Wanted": st.column_config.NumberColumn("Wanted", format="%d", help="Replicas that the autoscaler wants now."),
        "Requests": st.column_config.NumberColumn("Requests/s", format="%.2f", help="Over the last minute."),
        "Tokens": st.column_config.NumberColumn("Tokens/s", format="%.1f", help="Over the last minute."),
        "Generated": st.column_config.NumberColumn("Tokens", format="localized", help="Generated in the time shown."),
        "First": st.column_config.NumberColumn(
            "First token", format="%.2f s", help="95 % of the streamed answers began within."
        ),
        "p50": st.column_config.NumberColumn("Typical", format="%.1f s", help="Half of the answers took less."),
        "p95": st.column_config.NumberColumn("95 % within", format="%.1f s", help="Time of inference."),
        "Load": st.column_config.NumberColumn("To load", format="%.1f s", help="Mean time to get it into memory."),
        "Hits": st.column_config.NumberColumn(
            "Found in memory", format="percent", help="Of the last 256 requests: those that needn't wait for loading."
        ),
    }
    frame = pd.DataFrame(rows)
    shown = [c for c in frame.columns if c == "Model" or frame[c].notna().any()]
    view.table(frame, shown, config, key="models")


def _map(served: Served) -> None:
    """Which model is on which worker, and whether it is in its memory."""
    workers = [worker for worker in served.workers if worker.state != "asleep"]  # which have no model to answer with
    rows = [
        {"model": model.name, "worker": worker.name, "state": state, "sign": _CELLS[state][0]}
        for model in served.models
        for worker in workers
        if (state := _cell(model, worker)) is not None
    ]
    with view.card("Placement", "model by worker: ● in memory, ○ on disk, ◐ drained, ✕ missing"):
        if not rows:
            st.caption("No worker has a model: `cluster-ai status` says what does not run.")
            return
        spec = _squares(tuple(w.name for w in workers), tuple(m.name for m in served.models))
        view.drawing(spec, pd.DataFrame(rows), 60 + 34 * len(served.models), key="placement")


@functools.lru_cache(maxsize=50)
def _squares(workers: tuple[str, ...], models: tuple[str, ...]) -> dict[str, Any]:
    base = alt.Chart(view.DATA).encode(
        x=alt.X(
            "worker:N",
            title=None,
            scale=alt.Scale(domain=workers),
            axis=_axis(0 if len(workers) <= _UPRIGHT else -30, 120),
        ),
        y=alt.Y("model:N", title=None, scale=alt.Scale(domain=models), axis=_axis(0, 220)),
        tooltip=[
            alt.Tooltip("model:N", title="Model"),
            alt.Tooltip("worker:N", title="Worker"),
            alt.Tooltip("state:N", title="It is"),
        ],
    )
    colour = alt.Color(
        "state:N",
        legend=None,
        scale=alt.Scale(domain=list(_CELLS), range=[colour for _, colour in _CELLS.values()]),
    )
    signs = base.mark_text(fontSize=16, fontWeight="bold").encode(text="sign:N", color=colour)
    return view.described(base.mark_rect(cornerRadius=4, opacity=0.3).encode(color=colour) + signs)


def _axis(angle: int, limit: int) -> alt.Axis:
    return alt.Axis(grid=False, ticks=False, domain=False, labelAngle=angle, labelLimit=limit)


def _cell(model: ServedModel, worker: WorkerState) -> str | None:
    if worker.name in model.loaded:
        return "in memory"
    if worker.name in model.present:
        return "on disk"
    if model.name not in worker.placed:
        return None
    return "missing" if worker.cordon is None else "not to be had while its worker is drained"


def _why(sources: Sources, served: Served) -> None:
    name = st.selectbox(
        "Why is it where it is?", [m.name for m in served.models], index=None, key="why_model", placeholder="a model"
    )
    if name is None:
        return
    told = view.told(sources, placement.read, name).value
    if told is None:
        return
    st.caption(f"One replica needs {units.gib(told.memory)}: {told.whence}.")
    frame = pd.DataFrame(
        {
            "Worker": [r.worker for r in told.reasons],
            "Holds it": ["● yes" if r.holds else "○ no" for r in told.reasons],
            "Why": [r.why for r in told.reasons],
            "GPU free": [units.gib(r.free_gpu) if r.free_gpu else None for r in told.reasons],
            "Memory free": [units.gib(r.free_ram) for r in told.reasons],
            "Speed": [r.speed for r in told.reasons],
        }
    )
    config = {
        "Why": st.column_config.TextColumn(width="large"),
        "Speed": st.column_config.NumberColumn("Tokens per second", format="%.1f", help="Of one answer, lately."),
    }
    view.table(frame, [c for c in frame.columns if frame[c].notna().any()], config, key="why")


def _memory(sources: Sources, served: Served) -> None:
    if not acting.may(served, "change models", "load or unload a model"):
        return
    with st.popover("Load or unload", icon=":material/memory:"):
        name = str(st.selectbox("Model", [m.name for m in served.models], key="memory_model"))
        where = str(st.selectbox("On", [EVERYWHERE, *_having(served, name)], key="memory_worker"))
        st.caption("A model that is in no memory is loaded by its next request, which then waits for it.")
        body = {} if where == EVERYWHERE else {"worker": where}
        with st.container(horizontal=True):
            if st.button("Load", type="primary", key="load", icon=":material/download:"):
                acting.order(sources, f"{name} is in memory.", "POST", _ORDER + "load", body, name)
            if st.button("Unload", key="unload", icon=":material/eject:"):
                acting.order(sources, f"{name} is out of memory.", "POST", _ORDER + "unload", body, name)


def _having(served: Served, model: str) -> Sequence[str]:
    return next((m.present for m in served.models if m.name == model), ())
