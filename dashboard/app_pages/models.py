"""Every model: where it lives, and how fast it answers."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import queries, units, view
from dashboard.gateway import ServedModel
from dashboard.live import REFRESH, Sources


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
        view.chart(
            "Found in memory", "share of the last requests", now.charts["hits"], "share", key="hits", nothing=idle
        )


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
                "Ready": f"{len(place.present)} of {max(place.replicas, len(place.present))}" if place else None,
                "Present": ", ".join(place.present) if place else None,
                "Loaded": (", ".join(place.loaded) or "none now") if place else None,
                "Tokens": number.tokens if number else None,
                "Generated": round(number.generated) if number and number.generated is not None else None,
                "p50": number.p50 if number else None,
                "p95": number.p95 if number else None,
                "Load": number.load_time if number else None,
            }
        )
    config = {
        "Kind": st.column_config.TextColumn("Kind", help="Parameters and quantization."),
        "Ready": st.column_config.TextColumn(
            "Ready", help="Workers that can answer with it, of those it is placed on."
        ),
        "Present": st.column_config.TextColumn("On"),
        "Loaded": st.column_config.TextColumn(
            "In memory of", help="A model that is in no worker's memory is loaded by its next request."
        ),
        "Tokens": st.column_config.NumberColumn("Tokens/s", format="%.1f", help="Over the last minute."),
        "Generated": st.column_config.NumberColumn("Tokens", format="localized", help="Generated in the time shown."),
        "p50": st.column_config.NumberColumn("Typical", format="%.1f s", help="Half of the answers took less."),
        "p95": st.column_config.NumberColumn("95 % within", format="%.1f s", help="Time of inference."),
        "Load": st.column_config.NumberColumn("To load", format="%.1f s", help="Mean time to get it into memory."),
    }
    frame = pd.DataFrame(rows)
    shown = [c for c in frame.columns if c == "Model" or frame[c].notna().any()]
    view.table(frame, shown, config, key="models")
