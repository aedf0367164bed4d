"""Every model: where it lives, and how fast it answers."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import queries, view
from dashboard.gateway import ServedModel, UnauthorizedError
from dashboard.live import REFRESH, Sources


def draw(sources: Sources) -> None:
    seconds = view.heading("Models")
    _now(sources, seconds)


@st.fragment(run_every=REFRESH)
def _now(sources: Sources, seconds: int) -> None:
    reading = sources.models(seconds)
    try:
        served = sources.served()
    except UnauthorizedError:
        st.rerun()
    view.stale(reading)
    if served.problem is not None:
        view.problem(served.problem)
    measured = reading.value.models if reading.value else ()
    if not served.value and not measured:
        if served.problem is None:
            view.empty(
                "This cluster has no model.",
                "Name one under `cluster.models` in cluster.yaml, then `cluster-ai apply`.",
            )
        return
    _table(served.value or (), measured)
    now = reading.value
    if now is None:
        return
    idle = "No answers in this time. Send a prompt from the Playground."
    left, right = st.columns(2)
    with left:
        view.chart("Tokens", "per second", now.charts["tokens"], "per_second", key="m_tokens", nothing=idle)
    with right:
        view.chart(
            "Time of inference, slowest 5 %",
            "seconds",
            now.charts["inference"],
            "seconds",
            key="inference",
            nothing=idle,
        )
    view.age(reading, now.newest)


def _table(served: tuple[ServedModel, ...], measured: tuple[queries.Model, ...]) -> None:
    places = {m.name: m for m in served}
    numbers = {m.name: m for m in measured}
    rows = []
    for name in sorted({*places, *numbers}):
        place, number = places.get(name), numbers.get(name)
        rows.append(
            {
                "Model": name,
                "Placed": ", ".join(place.placed) if place else None,
                "Ready": f"{len(place.available)} of {len(place.placed)}" if place else None,
                "Loaded": (", ".join(place.loaded) or "not now") if place else None,
                "Tokens": number.tokens if number else None,
                "Generated": number.generated if number else None,
                "p50": number.p50 if number else None,
                "p95": number.p95 if number else None,
                "Load": number.load_time if number else None,
            }
        )
    config = {
        "Placed": st.column_config.TextColumn("Placed on"),
        "Ready": st.column_config.TextColumn(
            "Ready", help="Workers that can answer with it now, of those it is placed on."
        ),
        "Loaded": st.column_config.TextColumn(
            "In memory of", help="A model that is not in memory is loaded by its next request."
        ),
        "Tokens": st.column_config.NumberColumn("Tokens per second", format="%.1f"),
        "Generated": st.column_config.NumberColumn("Tokens", format="localized", help="Generated in the time shown."),
        "p50": st.column_config.NumberColumn(
            "Typical inference", format="%.2f s", help="Half of the answers took less, in the time shown."
        ),
        "p95": st.column_config.NumberColumn(
            "Slowest 5 %", format="%.2f s", help="95 % of the answers took less, in the time shown."
        ),
        "Load": st.column_config.NumberColumn("Time to load", format="%.1f s"),
    }
    frame = pd.DataFrame(rows)
    shown = [c for c in frame.columns if c == "Model" or frame[c].notna().any()]
    st.dataframe(frame, hide_index=True, column_order=shown, column_config=config, key="models", height="auto")
